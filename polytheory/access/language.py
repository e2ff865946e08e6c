"""Prompts and rewards as a world: an episode is one completion of a prompt."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch

from polytheory._typing import Int
from polytheory.access._grants import Grant, Key, Meter, Requests, Spec, check_grants
from polytheory.access.scoring import WeightedReward as WeightedReward
from polytheory.errors import ColumnError, SettingError
from polytheory.streams import uniforms
from polytheory.trajectories import Trajectories


class Prompts:
    """Online access to a language problem; one replica.

    Prompts come in epochs, each in its own order that hangs on the key alone, so that the place in the data is a counter
    and a resumed run needs no loader state.

    Args:
        rows: columns of the data set by name, all of one length >= 1; ``prompt`` holds texts, or lists of messages for a
            tokenizer with a chat template.
        tokenizer: a transformers tokenizer.
        rewards: at least one; the score is their weighted sum.
        max_length: longest completion in tokens, >= 1.
        max_prompt_length: a longer prompt is an error before any work; None allows all.
        device: where token ids live.

    Raises `SettingError`, `ColumnError` for anything else.
    """

    grants: ClassVar[frozenset[Grant]] = frozenset({Grant.EPISODE})
    replicas = 1

    def __init__(
        self,
        rows: Mapping[str, Sequence[Any]],
        tokenizer: Any,
        rewards: Sequence[WeightedReward],
        *,
        max_length: int,
        max_prompt_length: int | None = None,
        name: str = "",
        device: Any = "cpu",
    ):
        lengths = {k: len(v) for k, v in rows.items()}
        if "prompt" not in rows:
            raise ColumnError(f"the data set has no column 'prompt'; it has {', '.join(rows) or 'none'}: rename one")
        if len(set(lengths.values())) != 1 or not lengths["prompt"]:
            raise ColumnError(f"columns must have one length, at least 1; got {lengths}")
        if max_length < 1:
            raise SettingError(f"max_length = {max_length}; a completion needs room for at least 1 token")
        if not rewards:
            raise SettingError("no reward was given; pass at least one")
        for reward in rewards:
            reward.check(list(rows))
        self.rows, self.tokenizer, self.rewards, self.device = rows, tokenizer, tuple(rewards), device
        self.meter = Meter()
        digest = hashlib.sha256(json.dumps({k: list(v) for k, v in rows.items()}, default=str).encode()).hexdigest()
        # the digest makes another data set another run: a checkpoint is never continued on different rows
        name = f"{name or 'prompts'} ({len(rows['prompt'])} rows, sha256 {digest[:12]})"
        self.spec = Spec(None, len(tokenizer), max_length, 1.0, (-np.inf, np.inf), name=name)
        self._ids = self._encode(list(rows["prompt"]))
        if max_prompt_length is not None and self.longest_prompt > max_prompt_length:
            i = next(i for i, ids in enumerate(self._ids) if len(ids) == self.longest_prompt)
            raise SettingError(
                f"prompt {i} has {self.longest_prompt} tokens, allowed are {max_prompt_length}; drop it or allow more"
            )

    def __len__(self) -> int:
        """Number of prompts."""
        return len(self._ids)

    @property
    def longest_prompt(self) -> int:
        """Tokens of the longest prompt."""
        return max(map(len, self._ids))

    def state_dict(self) -> dict[str, Any]:
        """The meter; the place in the data is a counter of the algorithm."""
        return {"meter": self.meter.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` gave."""
        self.meter.load_state_dict(state["meter"])

    def ask(self, grant: Grant) -> None:
        """Raise `AccessError` unless the grant is given."""
        check_grants((grant,), self.grants, "this question", type(self).__name__)

    def next_prompts(self, key: Key, first: int, n: int) -> Int[np.ndarray, " n"]:
        """Rows ``first .. first + n - 1`` of the endless sequence of shuffled epochs."""
        place = np.arange(first, first + n)
        epochs = place // len(self)
        orders = {
            int(e): np.argsort(uniforms(key.seed, f"{key.purpose}/order", int(e), np.arange(len(self)), 1)[:, 0])
            for e in np.unique(epochs)
        }
        return np.array([orders[int(e)][p % len(self)] for e, p in zip(epochs, place, strict=True)], dtype=np.int64)

    def rollouts(self, policy: Any, requests: Requests, key: Key, *, greedy: bool = False) -> Trajectories:
        """One completion per request; ``requests.start`` names the prompts, equal ones side by side.

        ``columns`` of the result: ``prompt_ids``, ``prompt_mask`` [n, p], ``reward/<name>`` [n]. ``states`` is None: a
        state is the prompt with the tokens before.
        """
        if requests.start is None:
            raise SettingError("say which prompts to complete: Requests(start=...), for example from next_prompts")
        start = np.asarray(requests.start, dtype=np.int64)
        unique, repeats = _runs(start)
        ids, mask = self._padded([self._ids[i] for i in unique])
        row_id = torch.as_tensor(np.asarray(requests.row_id), device=self.device)
        done = policy.complete(ids, mask, row_id, key, requests.truncation, greedy=greedy)
        texts = self.decode(done.actions, done.mask)
        columns = {name: [values[i] for i in start] for name, values in self.rows.items()}
        scores = {f"reward/{r.name}": torch.as_tensor(r(texts, columns), device=self.device) for r in self.rewards}
        score = torch.stack([r.weight * scores[f"reward/{r.name}"] for r in self.rewards]).sum(0)
        rewards = torch.zeros(done.mask.shape, dtype=torch.float64, device=self.device)
        rewards.scatter_(1, done.mask.long().sum(1, keepdim=True) - 1, score[:, None])
        self.meter.add("episodes", len(start))
        self.meter.add("transitions", int(done.mask.sum()))
        columns = {"prompt_ids": ids.repeat_interleave(repeats, 0), "prompt_mask": mask.repeat_interleave(repeats, 0)}
        return Trajectories(
            None, done.actions, rewards, done.mask, done.log_probs, None, done.finished, requests.group, score,
            {**columns, **scores},
        )  # fmt: skip

    def decode(self, actions: Any, mask: Any) -> list[str]:
        """Completions as texts, without the end-of-text token."""
        rows = [a[m].tolist() for a, m in zip(actions, mask, strict=True)]
        return self.tokenizer.batch_decode(rows, skip_special_tokens=True)

    def _encode(self, prompts: Sequence[Any]) -> list[list[int]]:
        if all(isinstance(p, str) for p in prompts):
            ids = self.tokenizer(prompts, add_special_tokens=False).input_ids
            first = self.tokenizer("").input_ids[:1]  # what the tokenizer puts before every text, if anything
            if first and first[0] == self.tokenizer.bos_token_id:
                ids = [x if x[:1] == first else first + x for x in ids]
        elif not all(isinstance(p, list) for p in prompts):
            raise ColumnError("column 'prompt' mixes kinds; every prompt is a text, or every one a list of messages")
        elif not getattr(self.tokenizer, "chat_template", None):
            raise ColumnError(
                "prompts are lists of messages, and the tokenizer has no chat template; give texts instead, or a chat model"
            )
        else:
            ids = [self._encode_messages(i, prompt) for i, prompt in enumerate(prompts)]
        for i, x in enumerate(ids):
            if not x:
                raise ColumnError(f"prompt {i} is {prompts[i]!r}, which has no token; leave the row out")
        return ids

    def _encode_messages(self, i: int, prompt: Sequence[Any]) -> list[int]:
        try:
            return self.tokenizer.apply_chat_template(prompt, add_generation_prompt=True, return_dict=False)
        except Exception as error:  # the template's own complaints, or a message it cannot read
            raise ColumnError(
                f"the tokenizer's chat template refuses prompt {i}: {type(error).__name__}: {error}"
            ) from error

    def _padded(self, ids: Sequence[Sequence[int]]) -> tuple[torch.Tensor, torch.Tensor]:
        longest = max(map(len, ids))
        pad = self.tokenizer.pad_token_id or 0
        rows = [[pad] * (longest - len(x)) + list(x) for x in ids]
        masks = [[False] * (longest - len(x)) + [True] * len(x) for x in ids]
        return torch.tensor(rows, device=self.device), torch.tensor(masks, device=self.device)


def _runs(start: np.ndarray) -> tuple[np.ndarray, int]:
    """The prompts of equal runs and the length that all runs have; every row its own run where they differ."""
    edges = np.flatnonzero(np.diff(start)) + 1
    lengths = np.diff(np.concatenate([[0], edges, [len(start)]]))
    if len(set(lengths.tolist())) == 1:
        return start[np.concatenate([[0], edges]).astype(int)], int(lengths[0])
    return start, 1


class Demonstrations(Prompts):
    """A fixed data set of prompts and the completions to imitate.

    Args:
        rows: as in `Prompts`, with a column ``completion`` of texts or of one message each; every one is ended by the
            end-of-text token.

    Raises `ColumnError`.
    """

    grants: ClassVar[frozenset[Grant]] = frozenset({Grant.DATA})

    def __init__(self, rows: Mapping[str, Sequence[Any]], tokenizer: Any, *, name: str = "", device: Any = "cpu"):
        if "completion" not in rows:
            raise ColumnError(
                f"demonstrations need a column 'completion'; the data set has {', '.join(rows)}: rename one"
            )
        texts = [_text(i, x) for i, x in enumerate(rows["completion"])]
        ids = tokenizer(texts, add_special_tokens=False).input_ids
        self._answers = [[*x, tokenizer.eos_token_id] for x in ids]
        unused = WeightedReward("none", lambda completions: [0.0] * len(completions))
        super().__init__(rows, tokenizer, [unused], max_length=max(map(len, self._answers)), name=name, device=device)

    def next_rows(self, key: Key, first: int, n: int) -> dict[str, torch.Tensor]:
        """``prompt_ids``, ``prompt_mask`` [n, p] padded on the left, ``actions``, ``mask`` [n, t] on the right."""
        chosen = self.next_prompts(key, first, n)
        ids, prompt_mask = self._padded([self._ids[i] for i in chosen])
        answers = [self._answers[i] for i in chosen]
        longest = max(map(len, answers))
        actions = torch.tensor([a + [0] * (longest - len(a)) for a in answers], device=self.device)
        mask = torch.tensor([[True] * len(a) + [False] * (longest - len(a)) for a in answers], device=self.device)
        self.meter.add("episodes", n)
        return {"prompt_ids": ids, "prompt_mask": prompt_mask, "actions": actions, "mask": mask}


def _text(i: int, completion: Any) -> str:
    if isinstance(completion, list) and len(completion) == 1 and isinstance(completion[0], dict):
        completion = completion[0].get("content")
    if not isinstance(completion, str):
        raise ColumnError(f"completion {i} is {repr(completion)[:60]}; give a text, or a list of one message")
    return completion
