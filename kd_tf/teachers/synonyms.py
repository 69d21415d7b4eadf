"""Names by which data sets call one class: COCO, Pascal VOC, Open Images, Objects365.

Each line is one class; any of its names means it. Names are compared after
`normalise`, so case, spaces, hyphens and underscores need no line.
Source: the published class lists of the four data sets; only pairs that annotate the same
objects are here. Broader names (Open Images "Person" holds "Man" and "Woman") are merged by
the user, who knows what the teacher should be asked for.
"""

from collections.abc import Sequence

_LINES = """
airplane = aeroplane
motorcycle = motorbike
couch = sofa
tv = tvmonitor = tv monitor = television = monitor/tv = moniter/tv
dining table = diningtable = kitchen & dining room table
potted plant = pottedplant = houseplant
cell phone = mobile phone = mobilephone = cellphone
hair drier = hair dryer = hairdryer
donut = doughnut
bicycle = bike
microwave = microwave oven
refrigerator = fridge
laptop = laptop computer
remote = remote control
traffic light = traffic signal
fire hydrant = hydrant
parking meter = parking metre
wine glass = wineglass
teddy bear = teddy
toothbrush = tooth brush
baseball glove = baseball mitt
skis = ski
book = books
vase = flower vase
handbag = hand bag = handbag/satchel
suitcase = luggage
cake = cakes
cow = cattle
boat = ship/boat
cup = cup/mug
bench = park bench
orange = orange/tangerine
stop sign = stopsign
hot dog = hotdog
trash bin can = trash can = waste container = garbage bin
pen = pen/pencil
"""


# Words with two meanings, and the name that gives one of them away: in a list that has both "Mouse"
# and "Computer mouse" (Open Images) the former is the animal, in COCO it is the device.
_HOMONYMS = {
    "mouse": ("computermouse", "mouse(computerequipment)"),
    "keyboard": ("computerkeyboard", "musicalkeyboard", "pianokeyboard"),
    "bat": ("baseballbat",),
    "crane": ("crane(machine)", "constructioncrane"),
    "glasses": ("wineglass",),
    "racket": ("tennisracket",),
}


def normalise(name: str) -> str:
    """A name without the differences that mean nothing: case, spaces, hyphens, underscores."""
    return "".join(ch for ch in name.lower() if ch not in " -_")


def _table() -> dict[str, str]:
    table: dict[str, str] = {}
    for line in filter(None, _LINES.splitlines()):
        names = [normalise(name) for name in line.split("=")]
        for name in names:
            if table.setdefault(name, names[0]) != names[0]:
                raise ValueError(f"the synonym table gives {name!r} two meanings.")
    return table


_CANONICAL = _table()


def canonical(name: str, among: Sequence[str] = ()) -> str:
    """One spelling for all names of a class; a name without synonyms is only normalised.

    Args:
        name: The class.
        among: The list it stands in: it tells which meaning a word of two has.
    """
    plain = normalise(name)
    if plain in _HOMONYMS and not {normalise(other) for other in among}.isdisjoint(
        _HOMONYMS[plain]
    ):
        return f"{plain} (the other)"
    return _CANONICAL.get(plain, plain)
