"""95 % intervals of a mean."""

import math
from statistics import fmean, stdev

# Two-sided 95 % quantile of Student's t by degrees of freedom; beyond the table, the normal distribution's.
T95 = [12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228,
       2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086]  # fmt: skip


def of_mean(values):
    """(mean, low, high) of independent measurements; low and high are None of a single one."""
    mean, freedom = fmean(values), len(values) - 1
    if freedom == 0:
        return mean, None, None
    t = T95[freedom - 1] if freedom <= len(T95) else 1.960
    half = t * stdev(values) / math.sqrt(len(values))
    return mean, mean - half, mean + half


def of_ratio(numerators, denominators):
    """(ratio, low, high) of paired measurements: the geometric mean of their ratios."""
    logs = of_mean([math.log(a / b) for a, b in zip(numerators, denominators, strict=True)])
    return tuple(None if log is None else math.exp(log) for log in logs)
