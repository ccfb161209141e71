# ruff: noqa: UP018, SIM102
# mypy: ignore-errors
"""Warp kernels of `flow_score`: one thread a pose and step pair, then one a pose.

Warp reads annotations and ``float(0.0)`` as its own language: they are types and variables there.
"""

import warp as wp


@wp.kernel
def score_kernel(
    camera_from_base: wp.array(dtype=wp.mat44),
    centre: wp.array(dtype=wp.vec3),
    lens: wp.array(dtype=wp.vec4),
    now: wp.array2d(dtype=wp.vec3),
    then: wp.array2d(dtype=wp.vec3),
    normal: wp.array2d(dtype=wp.vec3),
    radius: float,
    observed: wp.array3d(dtype=wp.vec2),
    edges: wp.array3d(dtype=wp.vec3),
    edge_cell: float,
    cell: float,
    rows: int,
    columns: int,
    floor: float,
    ceiling: float,
    nearest: wp.array3d(dtype=float),
    predicted: wp.array3d(dtype=wp.vec2),
    out: wp.array3d(dtype=float),
):
    b, p = wp.tid()
    slot = b * now.shape[0] + p
    for r in range(rows):
        for c in range(columns):
            nearest[slot, r, c] = 1.0e9
    T = camera_from_base[b]
    eye = centre[b]
    fx = lens[b][0]
    fy = lens[b][1]
    cx = lens[b][2]
    cy = lens[b][3]
    for n in range(now.shape[1]):
        x = now[p, n]
        if wp.dot(normal[p, n], eye - x) > 0.0:
            a = wp.transform_point(T, x)
            if a[2] > 0.08:
                u = fx * a[0] / a[2] + cx
                v = fy * a[1] / a[2] + cy
                reach_u = fx * radius / a[2]
                reach_v = fy * radius / a[2]
                c0 = int(wp.floor((u - reach_u) / cell))
                c1 = int(wp.floor((u + reach_u) / cell))
                r0 = int(wp.floor((v - reach_v) / cell))
                r1 = int(wp.floor((v + reach_v) / cell))
                if c1 >= 0 and r1 >= 0 and c0 < columns and r0 < rows:
                    y = wp.transform_point(T, then[p, n])
                    if y[2] > 0.08:
                        d = wp.vec2(fx * y[0] / y[2] + cx - u, fy * y[1] / y[2] + cy - v)
                        for r in range(wp.max(r0, 0), wp.min(r1, rows - 1) + 1):
                            for c in range(wp.max(c0, 0), wp.min(c1, columns - 1) + 1):
                                if a[2] < nearest[slot, r, c]:
                                    nearest[slot, r, c] = a[2]
                                    predicted[slot, r, c] = d
    explained = float(0.0)
    seen = float(0.0)
    confirmed = float(0.0)
    said = float(0.0)
    for r in range(rows):
        for c in range(columns):
            o = observed[p, r, c]
            o_size = wp.length(o)
            d = wp.vec2(0.0, 0.0)
            d_size = float(0.0)
            if nearest[slot, r, c] < 1.0e8:
                d = predicted[slot, r, c]
                d_size = wp.length(d)
            if o_size > floor or d_size > floor:
                if o_size > ceiling:
                    o = o * (ceiling / o_size)
                if d_size > ceiling:
                    d = d * (ceiling / d_size)
                o_clipped = wp.min(o_size, ceiling)
                d_clipped = wp.min(d_size, ceiling)
                agree = float(0.0)
                if d_size > 0.0:
                    gap = wp.length(d - o) / (0.5 * (o_clipped + d_clipped) + 0.5)
                    agree = wp.max(0.0, 1.0 - gap)
                if o_size > floor:
                    seen += o_clipped
                    explained += agree * o_clipped
                if d_size > floor:
                    said += d_clipped
                    confirmed += agree * d_clipped
    # Points whose surface is seen edge-on lie on an outline: image edges there should run along it.
    on_edge = float(0.0)
    rim = float(0.0)
    for n in range(now.shape[1]):
        x = now[p, n]
        ray = eye - x
        facing = wp.dot(normal[p, n], ray) / wp.length(ray)
        if facing > 0.0 and facing < 0.25:
            a = wp.transform_point(T, x)
            if a[2] > 0.08:
                u = fx * a[0] / a[2] + cx
                v = fy * a[1] / a[2] + cy
                c = int(wp.floor(u / cell))
                r = int(wp.floor(v / cell))
                if c >= 0 and r >= 0 and c < columns and r < rows:
                    if a[2] < nearest[slot, r, c] + 0.04:
                        m = wp.normalize(wp.transform_vector(T, normal[p, n]))
                        across = wp.normalize(wp.vec2(m[0], m[1]))
                        i = wp.min(int(wp.floor(v / edge_cell)), edges.shape[1] - 1)
                        j = wp.min(int(wp.floor(u / edge_cell)), edges.shape[2] - 1)
                        t = edges[p, i, j]
                        on_edge += (
                            across[0] * across[0] * t[0]
                            + 2.0 * across[0] * across[1] * t[1]
                            + across[1] * across[1] * t[2]
                        )
                        rim += 1.0
    out[b, p, 4] = on_edge
    out[b, p, 5] = rim
    out[b, p, 0] = explained
    out[b, p, 1] = seen
    out[b, p, 2] = confirmed
    out[b, p, 3] = said


@wp.kernel
def overlap_kernel(
    nearest: wp.array3d(dtype=float),
    foreground: wp.array3d(dtype=float),
    rows: int,
    columns: int,
    pairs: int,
    often: float,
    out: wp.array2d(dtype=float),
):
    b = wp.tid()
    both = float(0.0)
    either = float(0.0)
    for r in range(rows):
        for c in range(columns):
            covered = float(0.0)
            for p in range(pairs):
                if nearest[b * pairs + p, r, c] < 1.0e8:
                    covered += 1.0
            # Where the robot nearly always is, the median image shows the robot itself.
            if covered < often * float(pairs):
                for p in range(pairs):
                    f = foreground[p, r, c]
                    if nearest[b * pairs + p, r, c] < 1.0e8:
                        both += f
                        either += 1.0
                    else:
                        either += f
    out[b, 0] = both
    out[b, 1] = either
