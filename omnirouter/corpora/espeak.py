"""eSpeak NG speech synthesis through ctypes, with the library that the package espeakng-loader bundles."""

import ctypes
import functools
import itertools
import os
import pickle
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from omnirouter.data.errors import UserError

SAMPLE_RATE_HZ = 22050

# From espeak-ng's speak_lib.h. The library may call exit() on an error unless told not to.
_AUDIO_OUTPUT_SYNCHRONOUS, _CHARS_UTF8 = 2, 1
_INITIALIZE_DONT_EXIT, _INITIALIZE_PHONEME_EVENTS, _INITIALIZE_PHONEME_IPA = 0x8000, 1, 2
_RATE, _PITCH = 1, 3
_LIST_TERMINATED, _PHONEME = 0, 7
_STRESS = "ˈˌ"


class _Event(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_int) for name in ("type", "id", "text_position", "length", "audio_position_ms", "sample")),
        ("user_data", ctypes.c_void_p),
        ("name", ctypes.c_char * 8),
    ]


_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event))


@dataclass(frozen=True)
class Prompt:
    """What to say and how: voice is `language` or `language+variant`, pitch is 0 to 99 with 50 the voice's own."""

    text: str
    voice: str
    rate_wpm: int = 175
    pitch: int = 50


@dataclass(frozen=True)
class Spoken:
    """What eSpeak made of a prompt."""

    samples: np.ndarray
    """int16 at SAMPLE_RATE_HZ."""
    phones: list[tuple[float, str]]
    """Where each phoneme begins, in seconds, and its IPA symbol without stress; a pause has none ("")."""


def synthesise(prompts: Sequence[Prompt]) -> list[Spoken]:
    """Speak each prompt: always the same for the same sequence of prompts.

    eSpeak carries hidden state from one prompt to the next (flutter phase, echo buffer), which even its
    re-initialisation leaves; so each call speaks in a forked child of this process, which itself never does.
    """
    for prompt in prompts:
        _check_variant(prompt.voice)
    _library()
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read_end)  # so that the child fails, rather than wait, when its reader has been killed
        _speak_and_exit(prompts, write_end)
    os.close(write_end)
    with os.fdopen(read_end, "rb") as pipe:
        output = pipe.read()
    _, status = os.waitpid(child, 0)
    if status != 0:
        raise UserError(f"eSpeak NG failed (status {status}) on one of {list(prompts)}")
    return [Spoken(np.frombuffer(samples, dtype=np.int16), phones) for samples, phones in pickle.loads(output)]


def _speak_and_exit(prompts: Sequence[Prompt], write_end: int) -> None:
    status = 1
    try:
        with os.fdopen(write_end, "wb") as pipe:
            pickle.dump([_speak(prompt) for prompt in prompts], pipe)
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)  # neither the parent's exit handlers nor its buffered output are the child's to run


def _speak(prompt: Prompt) -> tuple[bytes, list[tuple[float, str]]]:
    library, chunks, phones = _library(), [], []

    @_Callback
    def collect(samples: Any, count: int, events: Any) -> int:
        if samples and count > 0:
            chunks.append(ctypes.string_at(samples, 2 * count))
        for event in itertools.takewhile(lambda event: event.type != _LIST_TERMINATED, events):
            if event.type == _PHONEME:
                phones.append((event.sample / SAMPLE_RATE_HZ, event.name.decode().strip(_STRESS)))
        return 0

    text = prompt.text.encode()
    library.espeak_SetSynthCallback(collect)
    library.espeak_ng_SetRandSeed(ctypes.c_long(1))
    _check(library.espeak_SetVoiceByName(prompt.voice.encode()), f"voice {prompt.voice}")
    _check(library.espeak_SetParameter(_RATE, prompt.rate_wpm, 0), f"rate {prompt.rate_wpm}")
    _check(library.espeak_SetParameter(_PITCH, prompt.pitch, 0), f"pitch {prompt.pitch}")
    _check(library.espeak_Synth(text, ctypes.c_size_t(len(text) + 1), 0, 1, 0, _CHARS_UTF8, None, None), "text")
    _check(library.espeak_Synchronize(), "synchronisation")
    if not chunks:
        raise RuntimeError(f"eSpeak NG said nothing for {prompt}")
    return b"".join(chunks), phones


def _check(status: int, what: str) -> None:
    if status != 0:
        raise RuntimeError(f"eSpeak NG refused the {what} (status {status})")


@functools.cache
def _library() -> ctypes.CDLL:
    loader = _loader()
    library = ctypes.CDLL(loader.get_library_path())
    data = loader.get_data_path()
    options = _INITIALIZE_DONT_EXIT | _INITIALIZE_PHONEME_EVENTS | _INITIALIZE_PHONEME_IPA
    rate_hz = library.espeak_Initialize(_AUDIO_OUTPUT_SYNCHRONOUS, 0, os.fsencode(_short_path(data)), options)
    if rate_hz != SAMPLE_RATE_HZ:
        raise UserError(f"eSpeak NG did not start with its data in {data} (sample rate {rate_hz})")
    return library


def _short_path(path: str) -> str:
    """Name a directory by an open descriptor where its path is longer than eSpeak's buffer of about 160 bytes."""
    if len(os.fsencode(path)) < 140 or not os.path.isdir("/proc/self/fd"):
        return path
    return f"/proc/self/fd/{os.open(path, os.O_RDONLY)}"


def _check_variant(voice: str) -> None:
    """Refuse an unknown variant, which eSpeak itself would silently replace by its plain voice."""
    variant = voice.partition("+")[2]
    if variant and not (Path(_loader().get_data_path()) / "voices" / "!v" / variant).is_file():
        raise UserError(f"eSpeak NG has no voice variant {variant!r}: another version of espeakng-loader is installed?")


def _loader() -> ModuleType:
    try:
        import espeakng_loader
    except ImportError as error:
        raise UserError("package espeakng-loader is missing: pip install 'omnirouter[mini]'") from error
    return espeakng_loader
