"""Compare classifiers on scikit-learn's handwritten digits, train the best one and keep model, metrics and a plot.

Files go to $RACKSACK_RETURN_DIR, or to ./out when the program is run by hand. The same seed gives the same figures.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from pathlib import Path

import joblib
import matplotlib

matplotlib.use("Agg")  # a node has no screen

import matplotlib.pyplot as plt
import sklearn
from sklearn.base import ClassifierMixin, clone
from sklearn.datasets import load_digits
from sklearn.ensemble import ExtraTreesClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import ConfusionMatrixDisplay, accuracy_score, confusion_matrix
from sklearn.model_selection import StratifiedKFold, cross_val_score, train_test_split
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC


def models(seed: int) -> dict[str, ClassifierMixin]:
    """The candidates, by the name that `--models` takes."""
    return {
        "logistic": make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000, random_state=seed)),
        "neighbors": KNeighborsClassifier(n_neighbors=3),
        "svm": SVC(C=10.0, gamma=0.001, random_state=seed),
        "trees": ExtraTreesClassifier(n_estimators=300, random_state=seed),
    }


def read_arguments() -> argparse.Namespace:
    """The command line, checked."""
    names = sorted(models(0))
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", choices=names, default=names, help="which to compare (default: all)")
    parser.add_argument("--folds", type=int, default=5, help="folds of the cross-validation (default: 5)")
    parser.add_argument("--seed", type=int, default=0, help="of the split, the folds and the models (default: 0)")
    parser.add_argument(
        "--jobs",
        type=int,
        default=int(float(os.environ.get("RACKSACK_CPUS", "1"))) or 1,
        help="processes of the cross-validation (default: $RACKSACK_CPUS, or 1)",
    )
    arguments = parser.parse_args()
    if not 2 <= arguments.folds <= 100:
        parser.error("--folds must be from 2 to 100: the rarest digit has too few pictures for more")
    return arguments


def compare(candidates: dict[str, ClassifierMixin], pictures, labels, arguments: argparse.Namespace) -> dict:
    """Cross-validated accuracies of each candidate, with a line of progress for each."""
    folds = StratifiedKFold(n_splits=arguments.folds, shuffle=True, random_state=arguments.seed)
    compared = {}
    for number, (name, model) in enumerate(candidates.items(), start=1):
        started_s = time.monotonic()
        scores = cross_val_score(model, pictures, labels, cv=folds, n_jobs=arguments.jobs)
        seconds = time.monotonic() - started_s
        compared[name] = {
            "accuracy_mean": round(float(scores.mean()), 6),
            "accuracy_folds": [round(float(score), 6) for score in scores],
            "seconds": round(seconds, 3),
        }
        print(
            f"[{number}/{len(candidates)}] {name}: accuracy {scores.mean():.4f} +- {scores.std():.4f}, {seconds:.1f} s"
        )
    return compared


def plot(compared: dict, best: str, truth, predicted, path: Path) -> None:
    """Accuracies of all candidates beside the confusion matrix of the best one."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 5), layout="constrained")
    for name, entry in compared.items():
        left.plot([name] * len(entry["accuracy_folds"]), entry["accuracy_folds"], "o", alpha=0.6)
    left.set_ylabel("accuracy of a fold")
    left.set_title("Cross-validation")
    ConfusionMatrixDisplay(confusion_matrix(truth, predicted)).plot(ax=right, colorbar=False)
    right.set_title(f"{best} on the held-out fifth")
    figure.savefig(path, dpi=110)


def main() -> None:
    """Compare, train the best, write everything."""
    arguments = read_arguments()
    out = Path(os.environ.get("RACKSACK_RETURN_DIR", "out"))
    out.mkdir(parents=True, exist_ok=True)
    started_s = time.monotonic()

    pictures, labels = load_digits(return_X_y=True)
    train_x, test_x, train_y, test_y = train_test_split(
        pictures, labels, test_size=0.2, stratify=labels, random_state=arguments.seed
    )
    print(
        f"{len(pictures)} pictures, {len(train_x)} to train with; {arguments.folds} folds, {arguments.jobs} processes"
    )

    candidates = {name: model for name, model in models(arguments.seed).items() if name in arguments.models}
    compared = compare(candidates, train_x, train_y, arguments)
    best = max(compared, key=lambda name: compared[name]["accuracy_mean"])
    model = clone(candidates[best]).fit(train_x, train_y)
    predicted = model.predict(test_x)
    accuracy = accuracy_score(test_y, predicted)
    print(f"best: {best}, accuracy {accuracy:.4f} on {len(test_x)} pictures that it never saw")

    joblib.dump(model, out / "model.joblib")
    plot(compared, best, test_y, predicted, out / "digits.png")
    metrics = {
        "best": best,
        "test_accuracy": round(float(accuracy), 6),
        "test_pictures": len(test_x),
        "models": compared,
        "seed": arguments.seed,
        "folds": arguments.folds,
        "seconds": round(time.monotonic() - started_s, 3),
        "scikit_learn": sklearn.__version__,
        "python": platform.python_version(),
    }
    (out / "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n")
    print(f"wrote model.joblib, metrics.json and digits.png to {out}")


if __name__ == "__main__":
    main()
