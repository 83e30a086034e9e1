"""List what STAB-style measures compare: a text by several speakers, a sentence in several languages, long clips."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import soundfile

from _speech import kokoro, sources, synthesis
from _speech.audio import Clip, number, split_of

HELD_OUT = ("test", "val")  # never trained on, in any voice or language
# Besides those of the corpus: a Colombian speaker.
ASTERISK_MORE = {"es": ("es", "colombia")}
PAIRS = (("it", "carlo", "menardi"), ("fr", "june", "armelle"), ("es", "allison", "colombia"))
CORE = (("en", "allison"), ("es", "allison"), ("fr", "june"), ("it", "carlo"), ("ru", "ivrvoice"))
TUXPAINT_LANGS = ("bg", "ca", "el", "es", "fr", "ro", "ru")
NUM_TUXPAINT = 64  # sentences, of which those with a short clip are left out
NUM_READ = 14  # sentences that programs read in several voices
NUM_KOKORO = 6  # of them Kokoro, too, which takes as long as it speaks
READ_WORDS = range(6, 10)
ESPEAK_VOICES = ("en-us", "en-gb-x-rp+f3", "en-gb-scotland+m2")
LONG = (5.0, 7.5)  # seconds
LONG_WORDS = range(14, 23)  # that take about as long to read
NUM_LONG = 8  # clips of each source


@dataclass(frozen=True)
class Recording:
    """A clip, what it is for, and what it says.

    Args:
        clip: Where the sound comes from.
        parts: "speaker", "language", "long".
        group: The sentence, in whatever language and wording.
        seconds: Least and greatest duration.
    """

    clip: Clip
    parts: tuple[str, ...]
    group: str
    seconds: tuple[float, float] = (0.6, 15.0)

    @property
    def split(self) -> str:
        """The corpus's split of the text."""
        return self.clip.split or split_of(self.clip.key)


def recordings(root: Path, with_kokoro: bool) -> list[Recording]:
    """Return everything, a clip that serves several parts once."""
    found: dict[tuple[str, str], Recording] = {}
    for recording in (
        *asterisk(root),
        *hedgewars(root),
        *tuxpaint(root),
        *read_aloud(root, with_kokoro),
        *long_clips(root, with_kokoro),
    ):
        place = recording.clip.path, recording.group
        before = found.get(place)
        if before is not None:
            seconds = before.seconds if "long" not in recording.parts else recording.seconds
            recording = replace(before, parts=tuple(dict.fromkeys(before.parts + recording.parts)), seconds=seconds)
        found[place] = recording
    return list(found.values())


def asterisk(root: Path) -> list[Recording]:
    """Return prompts that two speakers of a language say, and prompts that are there in five languages."""
    clips = [*sources.asterisk(root), *asterisk_more(root)]
    prompts: dict[str, dict[tuple[str, str], Clip]] = defaultdict(dict)
    for clip in clips:
        if split_of(clip.key) in HELD_OUT:
            prompts[clip.key][clip.lang, clip.speaker.rsplit("-", 1)[1]] = clip
    result = []
    for key, spoken in prompts.items():
        group = f"asterisk:{key.removeprefix('asterisk ')}"
        for lang, *names in PAIRS:
            if all((lang, name) in spoken for name in names):
                result += [Recording(spoken[lang, name], ("speaker",), group) for name in names]
        if all(voice in spoken for voice in CORE):
            result += [Recording(spoken[voice], ("language",), group) for voice in CORE]
    return result


def asterisk_more(root: Path) -> list[Clip]:
    """Return the prompts of speakers whom the corpus does not have."""
    sounds = root / "usr/share/asterisk/sounds"
    clips = []
    for folder, (lang, name) in ASTERISK_MORE.items():
        for path in sorted((sounds / folder).rglob("*.gsm")):
            prompt = str(path.relative_to(sounds / folder).with_suffix(""))
            if not sources.ASTERISK_NOT_SPEECH.search(prompt):
                file, speaker = str(path.relative_to(root)), f"asterisk-{lang}-{name}"
                clips.append(Clip(file, f"asterisk {prompt.lower()}", "asterisk", speaker, lang))
    return clips


def hedgewars(root: Path) -> list[Recording]:
    """Return exclamations that at least three packs of one language have: one file of each pack."""
    packs: dict[tuple[str, str], dict[str, Clip]] = defaultdict(dict)
    for clip in sources.hedgewars(root):
        if split_of(clip.key) in HELD_OUT:
            packs[clip.key, clip.lang].setdefault(clip.speaker, clip)
    return [
        Recording(clip, ("speaker",), f"hedgewars:{key.removeprefix('hedgewars ')}")
        for (key, _), spoken in packs.items()
        if len(spoken) >= 3
        for clip in spoken.values()
    ]


def tuxpaint(root: Path) -> list[Recording]:
    """Return captions that seven languages have, without those whose file another caption has, too."""
    stems: dict[str, dict[str, Clip]] = defaultdict(dict)
    for clip in sources.tuxpaint(root):
        if split_of(clip.key) in HELD_OUT and clip.lang in TUXPAINT_LANGS:
            stems[re.sub(r"_desc.*", "", clip.path)][clip.lang] = clip
    seen: set[bytes] = set()
    result: list[Recording] = []
    for stem in sorted(stems, key=lambda stem: number(f"stab {stem}")):
        spoken = stems[stem]
        contents = {(root / clip.path).read_bytes() for clip in spoken.values()}
        if len(spoken) == len(TUXPAINT_LANGS) == len(contents) and not contents & seen:
            seen |= contents
            name = stem.removeprefix("usr/share/tuxpaint/stamps/")
            result += [Recording(spoken[lang], ("language",), f"tuxpaint:{name}") for lang in TUXPAINT_LANGS]
    return result[: NUM_TUXPAINT * len(TUXPAINT_LANGS)]


def read_aloud(root: Path, with_kokoro: bool) -> list[Recording]:
    """Return test sentences, each in all of flite's voices and some of espeak-ng's, some in Kokoro's test voices."""
    chosen = first(
        (pair for pair in synthesis.sentences(root) if split_of(pair[1]) == "test"), READ_WORDS, NUM_READ, "read"
    )
    voices = [("flite", voice) for voice in synthesis.FLITE] + [("espeak", voice) for voice in ESPEAK_VOICES]
    more = [("kokoro", voice) for voice in kokoro.TEST_VOICES] if with_kokoro else []
    return [
        Recording(
            Clip(f"{program} {voice} {text}", key, program, f"{program}-{voice}", "en", text),
            ("speaker",),
            f"read:{sources.fold(text)}",
        )
        for place, (text, key) in enumerate(chosen)
        for program, voice in (*voices, *(more if place < NUM_KOKORO else []))
    ]


def long_clips(root: Path, with_kokoro: bool) -> list[Recording]:
    """Return single clips of at least five seconds, more of each source than are wanted."""
    found = [
        clip
        for clip in (*sources.fillets(root), *sources.asterisk(root), *sources.librivox(root))
        if (clip.split or split_of(clip.key)) == "test" and LONG[0] <= seconds(root / clip.path) <= LONG[1]
    ]
    pairs = [pair for pair in synthesis.sentences(root) if split_of(pair[1]) == "test"]
    for program, voices in (("flite", synthesis.FLITE), ("espeak", synthesis.ESPEAK)):
        for place, (text, key) in enumerate(first(pairs, LONG_WORDS, NUM_LONG, program)):
            voice = voices[place % len(voices)]
            found.append(Clip(f"{program} {voice} {text}", key, program, f"{program}-{voice}", "en", text))
    if with_kokoro:
        found += [clip for clip in kokoro.clips(root) if clip.single and len(clip.text.split()) in LONG_WORDS]
    found.sort(key=lambda clip: number(f"stab {clip.path}"))
    return [Recording(clip, ("long",), f"{clip.source}:{clip.path}", LONG) for clip in found]


def seconds(path: Path) -> float:
    """Return the duration of a sound file, from its size where it has no header."""
    return path.stat().st_size / 33 * 0.02 if path.suffix == ".gsm" else soundfile.info(path).duration


def first(pairs: Iterable[tuple[str, str]], words: range, count: int, what: str) -> list[tuple[str, str]]:
    """Return some of the texts with so many words, in an order that a hash shuffles."""
    fitting = [pair for pair in pairs if len(pair[0].split()) in words]
    return sorted(fitting, key=lambda pair: number(f"stab {what} {pair[0]}"))[:count]
