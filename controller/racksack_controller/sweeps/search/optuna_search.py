"""Searches that learn from results, through Optuna's ask and tell: TPE, CMA-ES and a genetic algorithm.

Optuna is imported when such a sweep is there, and never else. Its study lives in memory and is made again from the
ledger after a restart:

- TPE looks at all results so far, so stored points and results are all of its state.
- CMA-ES and the genetic algorithm go by generations. A generation is drawn when all of the one before have an outcome,
  so their state follows from the seed and the outcomes alone: a restart asks and tells the same again.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from racksack_controller.core.sweeps.records import Sweep
from racksack_controller.sweeps.search.protocol import Drawer, Known, Outcome
from racksack_controller.sweeps.search.samplers import SearchError, Spread
from racksack_jobspecs.origin import install_hint
from racksack_jobspecs.sweep import expressions
from racksack_jobspecs.sweep.parse import is_ordered
from racksack_jobspecs.sweep.spec import Axis, Domain, Params, SweepSpec, Value

STARTUP_POINTS = 10  # random ones before TPE begins to learn
REFUSALS_MAX = 1000  # suggestions in a row that `where` leaves out
CATEGORIES_MAX = 1000  # longer lists are lines of numbers to a search

Trial = Any  # optuna.Trial; Optuna has no types that mypy --strict takes
Study = Any


def make_drawer(
    sweep: Sweep, drawn: Sequence[Params], outcomes: Sequence[Outcome], known: Sequence[Known] = ()
) -> Drawer:
    """The search of a sweep, with all that it has drawn so far and what came of it; `known`: of an earlier sweep."""
    spec = sweep.sweep
    missing = needs(spec)
    if missing is not None:
        return Missing(missing)
    if not spec.is_adaptive:
        return Spread(spec, len(drawn))
    told = dict(outcomes)
    if spec.search.kind == "tpe":
        return Tpe(spec, drawn, told, known)
    return Generations(spec, drawn, told, known)


def needs(spec: SweepSpec) -> str | None:
    """The sentence for a search whose library is missing here, or None."""
    wanted = {"sobol": "scipy", "tpe": "optuna", "ga": "optuna", "cmaes": "cmaes"}.get(spec.search.kind)
    if wanted is None:
        return None
    import importlib.util

    missing = [
        name for name in {wanted, "optuna" if spec.is_adaptive else wanted} if not importlib.util.find_spec(name)
    ]
    if not missing:
        return None
    return (
        f"the search {spec.search.kind} needs {missing[0]}, which is not installed beside the controller; "
        f"{install_hint('sweeps')}"
    )


class Missing:
    """A search whose library has gone since the sweep was accepted."""

    def __init__(self, sentence: str) -> None:
        self._sentence = sentence

    def draw(self, count: int) -> list[Params]:
        """Raises SearchError."""
        raise SearchError(self._sentence)

    def tell(self, outcomes: Sequence[Outcome]) -> None:
        """Nobody listens."""

    def close(self) -> None:
        """Nothing is held."""


class Tpe:
    """Tree-structured Parzen estimator (Bergstra et al. 2011), over all parameters together; points that are being
    computed count as bad ones meanwhile, so that workers spread out.
    """

    def __init__(
        self, spec: SweepSpec, drawn: Sequence[Params], told: dict[int, float | None], known: Sequence[Known]
    ) -> None:
        optuna = _optuna(spec)
        self._asking = Asking(spec)
        # Another seed after a restart: the same one would suggest what it suggested at the beginning.
        sampler = optuna.samplers.TPESampler(
            seed=spec.search.seed + len(drawn),
            n_startup_trials=STARTUP_POINTS,
            multivariate=True,
            group=True,
            constant_liar=True,
        )
        self._study = _study(spec, sampler)
        for params, value in known:
            self._study.add_trial(_finished(spec, params, value))
        self._open: dict[int, Trial] = {}
        self._next = len(drawn)
        for point, params in enumerate(drawn):
            if point in told:
                self._study.add_trial(_finished(spec, params, told[point]))
            else:
                self._study.enqueue_trial(self._asking.fixed(params))
                self._open[point] = self._asking.ask_fixed(self._study)

    def draw(self, count: int) -> list[Params]:
        """The next points."""
        found = []
        for _ in range(count):
            trial, params = self._asking.ask(self._study)
            self._open[self._next] = trial
            self._next += 1
            found.append(params)
        return found

    def tell(self, outcomes: Sequence[Outcome]) -> None:
        """What came of points that were drawn."""
        for point, value in outcomes:
            trial = self._open.pop(point, None)
            if trial is not None:
                _tell(self._study, trial, value)

    def close(self) -> None:
        """Nothing but memory is held."""


class Generations:
    """CMA-ES (Hansen, Ostermeier 2001) or a genetic algorithm (NSGA-II with one objective, Deb et al. 2002)."""

    def __init__(
        self, spec: SweepSpec, drawn: Sequence[Params], told: dict[int, float | None], known: Sequence[Known]
    ) -> None:
        self._size = generation_points(spec)
        self._asking = Asking(spec)
        self._study = _study(spec, _sampler(spec, self._size, known=known))
        if spec.search.kind == "ga":
            for params in best_of(spec, known, self._size // 2):
                self._study.enqueue_trial(self._asking.fixed(params))
        self._trials: list[Trial] = []
        self._told: set[int] = set()
        self._early: dict[int, float | None] = {}
        self._base = 0  # generations are counted from here
        if not self._replay(drawn, told):
            self._take_over(spec, drawn, told)

    def draw(self, count: int) -> list[Params]:
        """The next points of this generation; none while it is being computed."""
        found: list[Params] = []
        while len(found) < count:
            if (len(self._trials) - self._base) % self._size == 0 and len(self._told) < len(self._trials):
                break
            trial, params = self._asking.ask(self._study)
            self._trials.append(trial)
            found.append(params)
        return found

    def tell(self, outcomes: Sequence[Outcome]) -> None:
        """What came of points that were drawn. Optuna hears of them in their order, once their generation is whole."""
        for point, value in outcomes:
            if point < len(self._trials) and point not in self._told:
                self._early[point] = value
        while self._early:
            first = len(self._told)
            generation = range(first, first + self._size)
            if not all(point in self._early for point in generation):
                return
            for point in generation:
                _tell(self._study, self._trials[point], self._early.pop(point))
                self._told.add(point)

    def close(self) -> None:
        """Nothing but memory is held."""

    def _replay(self, drawn: Sequence[Params], told: dict[int, float | None]) -> bool:
        """Ask and tell all again; whether what comes out is what is stored."""
        while len(self._trials) < len(drawn):
            first = len(self._trials)
            again = self.draw(min(self._size - first % self._size, len(drawn) - first))
            if not again or again != list(drawn[first : first + len(again)]):
                return False
            self.tell([(point, told[point]) for point in range(first, first + len(again)) if point in told])
        return True

    def _take_over(self, spec: SweepSpec, drawn: Sequence[Params], told: dict[int, float | None]) -> None:
        """Another version of Optuna suggests otherwise: its results are kept, its state begins anew."""
        self._study = _study(spec, _sampler(spec, self._size, turn=len(drawn)))
        self._trials, self._told, self._early = [None] * len(drawn), set(range(len(drawn))), {}
        self._base = len(drawn)
        for point, params in enumerate(drawn):
            self._study.add_trial(_finished(spec, params, told.get(point)))


def generation_points(spec: SweepSpec) -> int:
    """How many points a generation has."""
    if spec.search.population is not None:
        return spec.search.population
    if spec.search.kind == "cmaes":
        return max(8, 4 + int(3 * math.log(len(spec.axes) + len(spec.domains))))
    return max(10, min(50, (spec.search.count or 0) // 10))


class Asking:
    """Asks a study for a point: parameter after parameter, those with a false condition not at all."""

    def __init__(self, spec: SweepSpec) -> None:
        self._spec = spec
        self._dimensions: list[Axis | Domain] = [*spec.axes, *spec.domains]

    def ask(self, study: Study) -> tuple[Trial, Params]:
        """A trial and its parameters. Raises SearchError where `where` leaves nothing in."""
        for _ in range(REFUSALS_MAX):
            trial = study.ask()
            params = self._suggest(trial)
            if not self._spec.where or expressions.leaves_in(self._spec.where, params):
                return trial, params
            _tell(study, trial, None)
        raise SearchError(f"`where` left out {REFUSALS_MAX} suggestions in a row; loosen it: {self._spec.where}")

    def ask_fixed(self, study: Study) -> Trial:
        """The trial that was put in line."""
        trial = study.ask()
        self._suggest(trial)
        return trial

    def fixed(self, params: Params) -> dict[str, Any]:
        """Parameters as the study knows them."""
        return {one.name: _inner(one, params[one.name]) for one in self._dimensions if one.name in params}

    def _suggest(self, trial: Trial) -> Params:
        params: Params = {}
        for one in self._dimensions:
            if not one.only_if or expressions.holds(one.only_if, params):
                params[one.name] = _suggestion(trial, one)
        return params


def _suggestion(trial: Trial, one: Axis | Domain) -> Value:
    if isinstance(one, Axis):
        place: int
        last = len(one.values) - 1
        if _is_line(one):
            place = trial.suggest_int(one.name, 0, last)
        else:
            place = trial.suggest_categorical(one.name, list(range(last + 1)))
        return one.values[place]
    if one.is_whole:
        return int(trial.suggest_int(one.name, int(one.low), int(one.high), log=one.is_log))
    return float(trial.suggest_float(one.name, one.low, one.high, log=one.is_log))


def _is_line(axis: Axis) -> bool:
    return is_ordered(axis) or len(axis.values) > CATEGORIES_MAX


def _inner(one: Axis | Domain, value: Value) -> Any:  # noqa: ANN401
    """A value as the study knows it: the place of it on an axis."""
    if isinstance(one, Domain):
        return value
    return next(at for at, known in enumerate(one.values) if known == value and type(known) is type(value))


def _finished(spec: SweepSpec, params: Params, value: float | None) -> Any:  # noqa: ANN401
    import optuna

    dimensions: list[Axis | Domain] = [*spec.axes, *spec.domains]
    dimensions = [one for one in dimensions if one.name in params]
    return optuna.trial.create_trial(
        params={one.name: _inner(one, params[one.name]) for one in dimensions},
        distributions={one.name: _distribution(one) for one in dimensions},
        value=value,
        state=optuna.trial.TrialState.COMPLETE if value is not None else optuna.trial.TrialState.FAIL,
    )


def _distribution(one: Axis | Domain) -> Any:  # noqa: ANN401
    from optuna import distributions

    if isinstance(one, Axis):
        last = len(one.values) - 1
        if _is_line(one):
            return distributions.IntDistribution(0, last)
        return distributions.CategoricalDistribution(list(range(last + 1)))
    if one.is_whole:
        return distributions.IntDistribution(int(one.low), int(one.high), log=one.is_log)
    return distributions.FloatDistribution(one.low, one.high, log=one.is_log)


def _tell(study: Study, trial: Trial, value: float | None) -> None:
    import optuna

    if trial is None:
        return
    if value is None:
        study.tell(trial, state=optuna.trial.TrialState.FAIL)
    else:
        study.tell(trial, value)


def best_of(spec: SweepSpec, known: Sequence[Known], count: int) -> list[Params]:
    """The best points of an earlier sweep, the best first."""
    is_max = spec.metrics[0].direction == "max"
    return [params for params, _ in sorted(known, key=lambda one: one[1], reverse=is_max)[:count]]


def _sampler(spec: SweepSpec, size: int, turn: int = 0, known: Sequence[Known] = ()) -> Any:  # noqa: ANN401
    optuna = _optuna(spec)
    seed = spec.search.seed + turn
    if spec.search.kind == "cmaes":
        return optuna.samplers.CmaEsSampler(
            seed=seed,
            popsize=size,
            n_startup_trials=1,
            warn_independent_sampling=False,
            source_trials=[_finished(spec, *one) for one in known] or None,
            independent_sampler=optuna.samplers.RandomSampler(seed=seed),
        )
    return optuna.samplers.NSGAIISampler(seed=seed, population_size=size)


def _study(spec: SweepSpec, sampler: Any) -> Study:  # noqa: ANN401
    direction = "maximize" if spec.metrics[0].direction == "max" else "minimize"
    return _optuna(spec).create_study(sampler=sampler, direction=direction)


def _optuna(spec: SweepSpec) -> Any:  # noqa: ANN401
    missing = needs(spec)
    if missing is not None:
        raise SearchError(missing)
    import warnings

    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    return optuna
