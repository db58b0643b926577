"""What a run belongs to: its configuration, classes, data and machine. Imports no TensorFlow.

The record stands in `run.json`, and in the state of every checkpoint as it was when that was saved.
So a checkpoint can be believed by itself: no file beside it decides what its outputs mean.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from detflow.config.schema import ExperimentConfig
from detflow.digests import DIGEST_KEY
from detflow.errors import ArtifactError
from detflow.label_map import LabelMap
from detflow.runs.initial import read_initial_weights
from detflow.runs.plan import Plan

_ENTRIES = (
    "classes",
    "config",
    "data_fingerprint",
    "plan",
    "initial_weights",
    "detflow",
    "accepted_changes",
    DIGEST_KEY,
)


@dataclass(frozen=True)
class RunRecord:
    """What the weights of a run are made from.

    Attributes:
        config: The resolved configuration; its `train.steps` is the plan's, once that is known.
        label_map: The classes, in the order of the network's outputs, which never changes.
        data_fingerprint: Of the records.
        machine: What else decides the last bits, by name: threads, precision, versions.
        plan: How many steps there are to be, as far as that is known.
        initial_weights: What a run that did not start from scratch took from where.
        accepted_changes: What the user accepted in the course of the run: at which `step`, the
            `changes`, a line each, and what was `learnt` until then: the fingerprint of the
            records, and the split.
        detflow: The version that started the run, or that recorded the latest accepted change.
    """

    config: ExperimentConfig
    label_map: LabelMap
    data_fingerprint: str
    machine: Mapping[str, Any]
    plan: Plan
    initial_weights: Mapping[str, Any] | None = None
    accepted_changes: tuple[Mapping[str, Any], ...] = ()
    detflow: str = ""

    def to_json(self) -> dict[str, Any]:
        """Returns the record as a JSON object."""
        return {
            "classes": list(self.label_map),
            "config": self.config.model_dump(mode="json"),
            "data_fingerprint": self.data_fingerprint,
            **self.machine,
            "plan": [list(fit) for fit in self.plan.fits],
            "initial_weights": self.initial_weights,
            "detflow": self.detflow,
            "accepted_changes": list(self.accepted_changes),
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any], path: Path) -> RunRecord:
        """Reads what `to_json` returned.

        Args:
            content: The JSON object.
            path: The file that it was read from, for errors.

        Raises:
            ArtifactError: It is no record, or its configuration is not of this version.
        """
        try:
            return cls(
                ExperimentConfig.model_validate(content["config"]),
                LabelMap(tuple(content["classes"])),
                str(content["data_fingerprint"]),
                {name: value for name, value in content.items() if name not in _ENTRIES},
                Plan.from_numbers(content["plan"]),
                read_initial_weights(content["initial_weights"]),
                tuple(_read_accepted(entry) for entry in content["accepted_changes"]),
                str(content["detflow"]),
            )
        except ValidationError as error:
            problem = error.errors()[0]
            place = ".".join(map(str, problem["loc"]))
            raise ArtifactError(
                f"its configuration is not one of this version: {place}: {problem['msg']}",
                path=path,
            ) from None
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise ArtifactError(
                f"not the record of a run: {type(error).__name__} {error}", path=path
            ) from None

    def planned(self, plan: Plan) -> RunRecord:
        """Returns the record with another plan, and its number of steps."""
        if plan.total is None:
            return dataclasses.replace(self, plan=plan)
        return dataclasses.replace(self, plan=plan, config=with_steps(self.config, plan.total))

    def is_of_one_run(self, other: RunRecord) -> bool:
        """Tells whether two records differ in the plan at most, which a time budget changes."""
        return self.planned(Plan.fixed(1)).to_json() == other.planned(Plan.fixed(1)).to_json()

    def is_earlier(self, other: RunRecord) -> bool:
        """Tells whether the other record is this one after further accepted changes."""
        before, after = self.accepted_changes, other.accepted_changes
        return len(before) < len(after) and after[: len(before)] == before


def _read_accepted(entry: Any) -> Mapping[str, Any]:
    step, *lists = (entry[name] for name in ("step", "changes", "learnt"))
    if not (
        isinstance(step, int)
        and all(isinstance(texts, list) for texts in lists)
        and all(isinstance(text, str) for texts in lists for text in texts)
        and len(lists[1]) == 2
    ):
        raise ValueError("accepted_changes are not what a run has there")
    return {"step": step, "changes": lists[0], "learnt": lists[1]}


def with_steps(config: ExperimentConfig, steps: int) -> ExperimentConfig:
    """Returns the configuration with another number of steps."""
    return config.model_copy(update={"train": config.train.model_copy(update={"steps": steps})})
