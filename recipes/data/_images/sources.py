"""Which files of the packages are photographs, chosen by looking at each, and which of them show one scene."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PICTURE = re.compile(r"\.(jpe?g|png|webp|p[gp]m)$", re.IGNORECASE)
SKY = "usr/share/stellarium/nebulae/default"
DEMO = "usr/share/kphotoalbum/demo"
LARGEST = "contents/images/2560x1600"  # of those of KDE's wallpapers that are photographs

# Source, package, folder, and the names of its photographs. What a folder holds beside them is drawn, rendered, a
# screenshot, a mask, transparent, calibration boards, the other half of a stereo pair, the next frame of a film, or
# another variant of a picture; of OpenCV's, a press photograph (messi5), blurred pictures and paintings are left out.
CHOSEN = (
    (
        "mate",
        "mate-backgrounds",
        "usr/share/backgrounds/mate",
        "nature/Aqua nature/Blinds nature/Dune nature/FreshFlower nature/Garden nature/GreenMeadow nature/LadyBird "
        "nature/RainDrops nature/Storm nature/TwoWings nature/Wood nature/YellowFlower",
    ),
    (
        "lomiri",
        "lomiri-wallpapers-16.04",
        "usr/share/backgrounds",
        "Bridge_by_Sander_Klootwijk Dragonfly_by_Bolly Picture_0B_by_freespace Picture_1A_by_freespace "
        "Wine_by_Jakkub_Mede aitzgorri_by_Aitzol_Berasategi free_by_Peter_Nerlich friends_by_Aitzol_Berasategi "
        "greentock_by_Peter_Nerlich life_by_Aitzol_Berasategi picosdeeuropa_by_Aitzol_Berasategi "
        "seeding_by_Clements_Engelhardt sunset_by_Aitzol_Berasategi",
    ),
    ("lomiri", "lomiri-wallpapers-20.04", "usr/share/backgrounds", "Kleiber_by_Lukas_Baubkus"),
    (
        "plasma",
        "plasma-workspace-wallpapers",
        "usr/share/wallpapers",
        "BytheWater ColdRipple ColorfulCups DarkestHour EveningGlow FallenLeaf Grey Kite OneStandsOut Path summer_1am",
    ),
    (
        "kphotoalbum",
        "kphotoalbum",
        DEMO,
        "anne_helene bar55 bar55_2 blackie cold_water donna donna_2 grand_canyon_1 grand_canyon_2 grand_canyon_3 "
        "jesper jesper_2 new_wave_1 new_wave_2 pool pool_2 qt-logo skagen skagen_2 snow spiff spiff_2 sunset wayne",
    ),
    (
        "opencv",
        "opencv-doc",
        "usr/share/doc/opencv-doc/examples",
        "alphamat/input_images/plant data/aero1 data/aero3 data/aloeL data/apple data/baboon data/basketball1 "
        "data/board data/box_in_scene data/building data/butterfly data/ela_original data/fruits data/graf1 data/home "
        "data/left data/leuvenA data/orange data/rubberwhale1 data/smarties data/squirrel_cls data/stuff data/sudoku "
        "dnn_superres/butterfly hfs/data/000 hfs/data/001 hfs/data/002 reg/home text/scenetext01 text/scenetext02 "
        "text/scenetext03 text/scenetext04 text/scenetext05 text/scenetext06 text/scenetext_segmented_word01 "
        "text/scenetext_segmented_word02 text/scenetext_segmented_word03 text/scenetext_segmented_word04 "
        "text/scenetext_segmented_word05",
    ),
    (
        "visp",
        "visp-images-data",
        "usr/share/visp-images-data/ViSP-images",
        "faces/1280px-Solvay_conference_1927 mbt-depth/castel/chateau",
    ),
    (
        "scikit",
        "scikit-image",
        "wheels/skimage/data",
        "astronaut brick camera chelsea coffee coins grass gravel moon retina rocket",
    ),
    ("scikit", "scikit-learn", "wheels/sklearn/datasets/images", "china flower"),
    ("sky", "scikit-image", "wheels/skimage/data", "hubble_deep_field"),
)
# Pictures of one place or thing, whose names do not say so.
SAME_SCENE = {
    "opencv/data/aero1": "opencv/aero",
    "opencv/data/aero3": "opencv/aero",
    "kphotoalbum/cold_water": "kphotoalbum/skagen",
    "kphotoalbum/anne_helene": "kphotoalbum/skagen",
}
CREDIT = re.compile(r"(-vasey|-dss|-sdss2?|-trev|-darkskies|-2mass|oleg|dumont|spano|h)$")
MOSAIC = re.compile(r"^(lmc|smc|barnard_loop|ic2118|sh2-1|rho)(29)?[-_](ha|a?[0-9]+)$")


@dataclass(frozen=True)
class Photo:
    """A file of a package.

    Attributes:
        path: Below the folder that the packages were unpacked to.
        source: Which part of the set it belongs to.
        package: Where it is from.
        name: Its name in the set, without suffix; unique.
        scene: What it shows: photos of one scene are in one split.
        turn: Degrees by which to turn it, counter-clockwise.
        chosen: Whether somebody looked at it. A photo that was chosen must be usable; others are left out and counted.
    """

    path: str
    source: str
    package: str
    name: str
    scene: str
    turn: int = 0
    chosen: bool = True


def photos(root: Path) -> list[Photo]:
    """Return the photographs that were chosen, and all of Stellarium's pictures of the sky."""
    turns = kphotoalbum_turns(root / DEMO / "index.xml")
    found = []
    for source, package, folder, names in CHOSEN:
        for name in names.split():
            path = picture(root / folder / (f"{name}/{LARGEST}" if source == "plasma" else name))
            scene = f"{source}/{name}"
            if source == "kphotoalbum":
                scene = re.sub(r"_[0-9]$", "", scene)
            found.append(
                Photo(
                    str(path.relative_to(root)),
                    source,
                    package,
                    f"{source}/{name.replace('/', '-')}",
                    SAME_SCENE.get(f"{source}/{name}", scene),
                    -turns.get(path.name, 0) if source == "kphotoalbum" else 0,
                )
            )
    return [*found, *sky(root)]


def sky(root: Path) -> Iterator[Photo]:
    """Yield Stellarium's pictures of nebulae, galaxies and clusters; the tiles of a mosaic are one scene."""
    for path in sorted((root / SKY).glob("*.png")):
        scene = CREDIT.sub("", path.stem)
        if match := MOSAIC.match(path.stem):
            scene = match[1]
        yield Photo(
            str(path.relative_to(root)), "sky", "stellarium-data", f"sky/{path.stem}", f"sky/{scene}", chosen=False
        )


def picture(stem: Path) -> Path:
    """Return the picture with a name without its suffix."""
    found = [path for path in stem.parent.glob(f"{stem.name}.*") if PICTURE.search(path.name)]
    if len(found) != 1 or found[0].is_symlink():
        raise SystemExit(f"One picture of the name {stem} was expected, found {len(found)}.")
    return found[0]


def kphotoalbum_turns(index: Path) -> dict[str, int]:
    """Return how many degrees, clockwise, the album turns its pictures."""
    images = ElementTree.parse(index).getroot().iter("image")
    return {image.attrib["file"]: int(image.get("angle", "0")) for image in images}


def looked_at(root: Path) -> Iterator[tuple[str, int, int]]:
    """Yield each folder that was looked at, how many of its pictures were chosen and how many it has, links aside."""
    chosen: dict[str, int] = {}
    for _, _, folder, names in CHOSEN:
        chosen[folder] = chosen.get(folder, 0) + len(names.split())
    for folder, count in chosen.items():
        below = [f"{root / other}/" for other in chosen if other.startswith(f"{folder}/")]
        held = [path for path in (root / folder).rglob("*") if PICTURE.search(path.name) and not path.is_symlink()]
        yield folder, count, sum(not str(path).startswith(tuple(below)) for path in held)
