import numpy as np
import tensorflow as tf

from kd_tf.training import flat


def test_cut_gives_back_what_join_joined():
    arrays = [np.arange(6.0).reshape(2, 3), np.array(7.0), np.array([8.0, 9.0])]
    vector = flat.join([tf.constant(array) for array in arrays])
    assert vector.numpy().tolist() == [0, 1, 2, 3, 4, 5, 7, 8, 9]
    variables = [tf.Variable(tf.zeros(array.shape)) for array in arrays]
    for array, part in zip(arrays, flat.cut(vector, variables), strict=True):
        np.testing.assert_array_equal(part.numpy(), array)
