"""What a memory knows of its rows, as dictionaries: facts, features and scores.

A row's scores are those that its whole batch of one has under the model that was there
when it was scored; those that compare rows, among the features known at that time.
"""

import functools
import math

import torch
from memories import inputs
from slow_scores import Reader, accesses, ages, alone, distance, energy, mean_of

LIVE = {"age", "access", "diversity"}
COMPARING = {"energy", "diversity"}
MODELS = [Reader(seed=0), Reader(seed=1)]


class NoModel(Exception):
    """Scores are needed, and there is no model."""


@functools.cache
def of_one(model, number, label):
    return alone(MODELS[model], inputs([number]), torch.tensor([label]))


class SlowMemory:
    """Rows by slot.

    :param weights: of the mixed score, by criterion.
    """

    def __init__(self, weights, w_age=0.0, w_use=0.0):
        self.weights, self.w_age, self.w_use = weights, w_age, w_use
        self.rows = []
        self.seen = self.draws = 0
        self.model = None  # its place in MODELS
        self.kept = set()  # criteria whose scores are kept
        self.features = False

    # Rows

    def new(self, number, label, task):
        self.seen += 1
        return {
            "lowest": math.inf,  # of its losses, where forgetting is asked for
            "number": number,
            "y": label,
            "task": task,
            "arrival": self.seen,
            "uses": 0,
            "drawn": self.draws,
            "scored": -1,
        }

    def stale(self):
        active = self.kept or self.features
        return [row for row in self.rows if active and row["scored"] < 0]

    # Scores

    def need(self, name=None, features=False):
        """From now on these are needed; what is there was not scored for them."""
        names = {n for n, w in self.weights.items() if w} if name == "mixed" else {name}
        kept = self.kept | names - LIVE - {None}
        features |= self.features or bool(names & COMPARING)
        if (kept, features) != (self.kept, self.features):
            self.kept, self.features = kept, features
            for row in self.rows:
                row["scored"] = -1

    def settle(self):
        self.refresh(self.stale())

    def refresh(self, rows):
        """Score rows anew, all among the features that all have then."""
        if not rows or not (self.kept or self.features):
            return
        if self.model is None:
            raise NoModel
        for row in rows + self.stale() * ("energy" in self.kept):
            row["feature"] = self.of(row)["feature"]
        for row in rows:
            others = [other for other in self.rows if other is not row]
            self.score(row, others)
            row["scored"] = self.seen

    def of(self, row):
        return of_one(self.model, row["number"], row["y"])

    def score(self, row, others):
        """Scores that are kept of a row which has its features, among others."""
        own = self.of(row)
        row["scores"] = {n: own[n] for n in self.kept - {"energy", "forgetting"}}
        if "forgetting" in self.kept:
            row["lowest"] = min(row["lowest"], own["loss"])
            row["scores"]["forgetting"] = own["loss"] - row["lowest"]
        if "energy" in self.kept:
            seen = [other["feature"] for other in others]
            row["scores"]["energy"] = energy(row["feature"], seen)

    def arrive(self, rows):
        """Score rows that are not stored yet, among those that are."""
        if not (self.kept or self.features):
            return
        if self.model is None:
            raise NoModel
        for row in rows:
            row["feature"] = self.of(row)["feature"]
            self.score(row, self.rows)

    def scores(self, name, arriving=()):
        """Of each row stored, then of each that arrives."""
        rows = [*self.rows, *arriving]
        if name == "mixed":
            used = [criterion for criterion, weight in self.weights.items() if weight]
            return mean_of({c: self.scores(c, arriving) for c in used}, self.weights)
        if name == "age":
            return ages([row["arrival"] for row in rows], self.seen)
        if name == "access":
            return accesses(rows, self.draws)
        if name == "diversity":
            return [
                distance(
                    row["feature"],
                    [other["feature"] for other in self.rows if other is not row],
                )
                for row in rows
            ]
        return [row["scores"][name] for row in rows]

    def values(self, arriving=()):
        """``mean of the criteria − w_age · age + w_use · access``."""
        values = self.scores("mixed", arriving)
        if self.w_age:
            found = self.scores("age", arriving)
            values = [v - self.w_age * a for v, a in zip(values, found, strict=True)]
        if self.w_use:
            access = {"access": self.scores("access", arriving)}
            found = mean_of(access, {"access": 1})
            values = [v + self.w_use * a for v, a in zip(values, found, strict=True)]
        return values
