"""List the recordings of each source: files, texts, speakers, and the keys that decide their split."""

from __future__ import annotations

import functools
import hashlib
import re
from pathlib import Path

from _speech.audio import Clip

TUXPAINT_LANGS = ("be", "bg", "ca", "da", "el", "es", "fr", "nl", "ro", "ru")  # lt and ml have nearly nothing
ASTERISK = {
    "en_US_f_Allison": ("en", "allison"),
    "es_MX_f_Allison": ("es", "allison"),
    "fr_CA_f_June": ("fr", "june"),
    "fr": ("fr", "armelle"),
    "it_IT_m_Carlo": ("it", "carlo"),
    "it_IT_f_Menardi": ("it", "menardi"),
    "ru_RU_f_IvrvoiceRU": ("ru", "ivrvoice"),
}
# Beeps, and monkeys.
ASTERISK_NOT_SPEECH = re.compile(
    r"^silence/|^(beep|beeperr|ascending-2tone|descending-2tone|confbridge-join|confbridge-leave|tt-monkeys)$"
)
NEVER_TRAINED = ("sonic-pi", "colobot")
# Tux Paint's other sounds are noises, but for spoken digits and letters, and a few more voices.
TUXPAINT_NOT_NOISE = re.compile(r"^symbols/|^seasonal/hanukkah/|apollo_lander|santahat")
HEDGEWARS_NOT_NOISE = re.compile(r"^(hell|Hell|countdown|hogchant|Yoohoo|Kiss|homerun|denied|custom)")


@functools.cache
def tuxpaint(root: Path) -> list[Clip]:
    """Return the spoken captions. Captions that share a text or a file belong to one key."""
    stamps = root / "usr/share/tuxpaint/stamps"
    found = []
    same = Groups()
    for path in sorted(stamps.rglob("*_desc*.ogg")):
        match = re.fullmatch(r"(.+)_desc(?:_([a-z]+))?\.ogg", path.name)
        if not match or (match[2] and match[2] not in TUXPAINT_LANGS):
            continue
        lang = match[2] or "en"
        stem = str(path.parent.relative_to(stamps) / match[1])
        texts = captions(path.with_name(f"{match[1]}.txt"))
        found.append((path, stem, lang, texts.get(lang, "")))
        same.join(stem, hashlib.sha256(path.read_bytes()).hexdigest())
        same.join(stem, f"{lang} {fold(texts[lang])}" if texts.get(lang) else stem)
        same.join(stem, f"en {fold(texts['en'])}" if texts.get("en") else stem)
    return [
        Clip(str(path.relative_to(root)), f"tuxpaint {same.root(stem)}", "tuxpaint", f"tuxpaint-{lang}", lang, text)
        for path, stem, lang, text in found
    ]


def tuxpaint_english(root: Path, clips: list[Clip]) -> list[tuple[str, str]]:
    """Return the English captions with the keys that their recordings in other languages have."""
    stamps = root / "usr/share/tuxpaint/stamps"
    keys = {re.sub(r"_desc.*", "", clip.path): clip.key for clip in clips}
    return [
        (text, keys.get(str(path.with_suffix("").relative_to(root)), f"tuxpaint {fold(text)}"))
        for path in sorted(stamps.rglob("*.txt"))
        if (text := captions(path).get("en"))
    ]


def captions(path: Path) -> dict[str, str]:
    """Return the texts of a stamp by language."""
    if not path.exists():
        return {}
    first, *rest = path.read_text(encoding="utf-8", errors="replace").splitlines() or [""]
    texts = {"en": clean(first)}
    for line in rest:
        if match := re.match(r"([a-z]+)\.utf8=(.*)", line):
            texts[match[1]] = clean(match[2])
    return {lang: text for lang, text in texts.items() if text}


DIALOG = re.compile(r'dialogId\(\s*"([^"]+)",\s*"[^"]*",\s*"((?:[^"\\]|\\.)*)"\s*\)')
TRANSLATION = re.compile(DIALOG.pattern + r'\s*dialogStr\(\s*"((?:[^"\\]|\\.)*)"\s*\)')


def fillets(root: Path) -> list[Clip]:
    """Return the dialogue of the game, keyed by level."""
    game = root / "usr/share/games/fillets-ng"
    clips = []
    for lang in ("cs", "nl"):
        for folder in sorted((game / "sound").rglob(lang)):
            level = str(folder.parent.relative_to(game / "sound"))
            texts = {}
            for script in sorted((game / "script" / level.split("/")[0]).glob(f"*dialogs_{lang}.lua")):
                for name, _, text in TRANSLATION.findall(script.read_text(encoding="utf-8")):
                    texts[name] = clean(unescape(text))
            for path in sorted(folder.glob("*.ogg")):
                role = next((part for part in path.stem.split("-") if part in ("m", "v")), "other")
                speaker = f"fillets-{lang}-{role}"
                name = str(path.relative_to(root))
                clips.append(Clip(name, fillets_key(level), "fillets", speaker, lang, texts.get(path.stem, "")))
    return clips


def fillets_key(level: str) -> str:
    """Return the key of a level. Jokes and shouts that all levels share are in one folder."""
    return f"fillets {level.split('/')[0]}"


def fillets_english(root: Path) -> list[tuple[str, str]]:
    """Return the English lines of the game with the keys of their levels."""
    scripts = root / "usr/share/games/fillets-ng/script"
    return [
        (clean(unescape(text)), fillets_key(path.parent.name))
        for path in sorted(scripts.glob("*/*dialogs_cs.lua"))
        for _, text in DIALOG.findall(path.read_text(encoding="utf-8"))
    ]


def asterisk(root: Path) -> list[Clip]:
    """Return the telephone prompts. Nobody wrote down what they say."""
    sounds = root / "usr/share/asterisk/sounds"
    clips = []
    for folder, (lang, name) in ASTERISK.items():
        files = [*(sounds / folder).rglob("*.wav"), *(sounds / folder).rglob("*.gsm")]
        for path in sorted(files):
            prompt = str(path.relative_to(sounds / folder).with_suffix(""))
            if not ASTERISK_NOT_SPEECH.search(prompt):
                key = f"asterisk {prompt.lower()}"
                file, speaker = str(path.relative_to(root)), f"asterisk-{lang}-{name}"
                clips.append(Clip(file, key, "asterisk", speaker, lang, min_seconds=0.5))
    return clips


def hedgewars(root: Path) -> list[Clip]:
    """Return the exclamations of the game's voice packs, without text."""
    voices = root / "usr/share/games/hedgewars/Data/Sounds/voices"
    clips = []
    for path in sorted(voices.rglob("*.ogg")):
        pack = path.parent.name
        lang = pack.split("_")[1] if "_" in pack else "en"
        # Ow1, Ow2, ... are the same exclamation.
        key = f"hedgewars {path.stem.lower().rstrip('0123456789')}"
        clips.append(Clip(str(path.relative_to(root)), key, "hedgewars", f"hedgewars-{pack.lower()}", lang))
    return clips


def librivox(root: Path) -> list[Clip]:
    """Return sentences of an audio book, all for the test."""
    folder = root / "usr/share/pocketsphinx/test/data/librivox"
    lines = (folder / "transcription").read_text(encoding="utf-8").splitlines()
    clips = []
    for line in lines:
        if match := re.fullmatch(r"<s> (.*) </s> \((.*)\)", line.strip()):
            path, text = str(folder.relative_to(root) / f"{match[2]}.wav"), match[1]
            clips.append(Clip(path, match[2], "librivox", "librivox-austen", "en", text, single=True, split="test"))
    return clips


def noises(root: Path) -> dict[str, list[Path]]:
    """Return sound files by source, of which `NEVER_TRAINED` are kept for the test of what a model has not heard."""
    stamps = root / "usr/share/tuxpaint/stamps"
    effects = [path for path in sorted(stamps.rglob("*.ogg")) if "_desc" not in path.name]
    game = root / "usr/share/games/hedgewars/Data"
    colobot = root / "usr/share/games/colobot"
    return {
        "tuxpaint": [path for path in effects if not TUXPAINT_NOT_NOISE.search(str(path.relative_to(stamps)))],
        "hedgewars": [
            *(path for path in sorted((game / "Sounds").glob("*.ogg")) if not HEDGEWARS_NOT_NOISE.match(path.name)),
            *sorted((game / "Music").glob("*.ogg")),
        ],
        "sonic-pi": sorted((root / "usr/share/sonic-pi/samples").glob("*.flac")),
        "colobot": [*sorted((colobot / "sounds").glob("*.wav")), *sorted((colobot / "music").glob("*.ogg"))],
    }


def clean(text: str) -> str:
    """Return a text on one line, without spaces at its ends."""
    return " ".join(text.replace("\ufeff", "").replace("\ufffd", "").split())


def unescape(text: str) -> str:
    """Undo Lua's escapes."""
    return re.sub(r"\\(.)", lambda match: " " if match[1] == "n" else match[1], text)


def fold(text: str) -> str:
    """Return letters and digits in lower case, so that texts can be compared."""
    return " ".join(re.findall(r"\w+", text.lower()))


class Groups:
    """Sets of names that grow together where a pair is joined (union-find)."""

    def __init__(self) -> None:
        self.parents: dict[str, str] = {}

    def root(self, name: str) -> str:
        """Return the name that stands for a group: the least of those joined."""
        while (parent := self.parents.setdefault(name, name)) != name:
            self.parents[name] = self.parents[parent]
            name = parent
        return name

    def join(self, one: str, other: str) -> None:
        """Put two names in one group."""
        first, second = sorted((self.root(one), self.root(other)))
        self.parents[second] = first
