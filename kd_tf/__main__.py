"""`python -m kd_tf` does what `python -m kd_tf.main` does."""

from kd_tf.main import entry_point

if __name__ == "__main__":
    entry_point()
