# ruff: noqa: UP018, RUF046, SIM102
# mypy: ignore-errors
"""Warp kernel of `flow_score`: one thread for all poses, on a grid that stays in the cache.

Warp reads annotations and ``float(0.0)`` as its own language: they are types and variables there.
Its ``for`` packs its counter: the same loops with ``while`` take a third less.
"""

import warp as wp

FAR = wp.constant(1.0e9)  # depth of a cell that nothing covers
_CLOSEST = wp.constant(0.08)  # m before the camera


@wp.kernel(enable_backward=False)
def score_kernel(
    camera_from_base: wp.array(dtype=wp.mat44),
    centre: wp.array(dtype=wp.vec3),
    lens: wp.array(dtype=wp.vec4),
    now: wp.array2d(dtype=wp.vec3),
    then: wp.array2d(dtype=wp.vec3),
    normal: wp.array2d(dtype=wp.vec3),
    radius: float,
    observed: wp.array2d(dtype=wp.vec2),
    foreground: wp.array2d(dtype=float),
    front: wp.array(dtype=float),
    edges: wp.array3d(dtype=wp.vec3),
    edge_cell: float,
    rims: bool,
    cell: float,
    rows: int,
    columns: int,
    floor: float,
    ceiling: float,
    often: float,
    nearest: wp.array(dtype=float),
    predicted: wp.array(dtype=wp.vec2),
    cover: wp.array(dtype=wp.vec2),
    out: wp.array2d(dtype=float),
):
    b = int(0)
    while b < camera_from_base.shape[0]:
        T = camera_from_base[b]
        eye = centre[b]
        fx = lens[b][0]
        fy = lens[b][1]
        cx = lens[b][2]
        cy = lens[b][3]
        explained = float(0.0)
        confirmed = float(0.0)
        said = float(0.0)
        on_edge = float(0.0)
        rim = float(0.0)
        p = int(0)
        while p < now.shape[0]:
            # The part of the grid that is covered: only there is anything to compare and to clear.
            top = int(rows)
            bottom = int(-1)
            left = int(columns)
            right = int(-1)
            n = int(0)
            while n < now.shape[1]:
                x = now[p, n]
                if wp.dot(normal[p, n], eye - x) > 0.0:
                    a = wp.transform_point(T, x)
                    if a[2] > _CLOSEST:
                        near = 1.0 / a[2]
                        u = fx * a[0] * near + cx
                        v = fy * a[1] * near + cy
                        reach_u = fx * radius * near
                        reach_v = fy * radius * near
                        c0 = wp.max(int(wp.floor((u - reach_u) / cell)), 0)
                        c1 = wp.min(int(wp.floor((u + reach_u) / cell)), columns - 1)
                        r0 = wp.max(int(wp.floor((v - reach_v) / cell)), 0)
                        r1 = wp.min(int(wp.floor((v + reach_v) / cell)), rows - 1)
                        if c0 <= c1 and r0 <= r1:
                            y = wp.transform_point(T, then[p, n])
                            if y[2] > _CLOSEST:
                                d = wp.vec2(fx * y[0] / y[2] + cx - u, fy * y[1] / y[2] + cy - v)
                                top = wp.min(top, r0)
                                bottom = wp.max(bottom, r1)
                                left = wp.min(left, c0)
                                right = wp.max(right, c1)
                                r = int(r0)
                                while r <= r1:
                                    i = int(r * columns + c0)
                                    while i <= r * columns + c1:
                                        if a[2] < nearest[i]:
                                            nearest[i] = a[2]
                                            predicted[i] = d
                                        i += 1
                                    r += 1
                n += 1
            r = int(top)
            while r <= bottom:
                i = int(r * columns + left)
                while i <= r * columns + right:
                    if nearest[i] < FAR:
                        cover[i] += wp.vec2(1.0, foreground[p, i])
                        d = predicted[i]
                        d_size = wp.length(d)
                        o = observed[p, i]
                        o_size = wp.length(o)
                        if (o_size > floor or d_size > floor) and d_size > 0.0:
                            if d_size > ceiling:
                                d = d * (ceiling / d_size)
                            d_clipped = wp.min(d_size, ceiling)
                            gap = wp.length(d - o) / (0.5 * (o_size + d_clipped) + 0.5)
                            agree = wp.max(0.0, 1.0 - gap)
                            if o_size > floor:
                                explained += agree * o_size
                            if d_size > floor:
                                said += d_clipped
                                confirmed += agree * d_clipped
                    i += 1
                r += 1
            # Points whose surface is seen edge-on lie on an outline: image edges there should run
            # along it.
            n = int(0)
            while rims and n < now.shape[1]:
                ray = eye - now[p, n]
                facing = wp.dot(normal[p, n], ray)
                if facing > 0.0 and facing < 0.25 * wp.length(ray):
                    a = wp.transform_point(T, now[p, n])
                    if a[2] > _CLOSEST:
                        u = fx * a[0] / a[2] + cx
                        v = fy * a[1] / a[2] + cy
                        c = int(wp.floor(u / cell))
                        r = int(wp.floor(v / cell))
                        if c >= 0 and r >= 0 and c < columns and r < rows:
                            if a[2] < nearest[r * columns + c] + 0.04:
                                m = wp.transform_vector(T, normal[p, n])
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
                n += 1
            r = int(top)
            while r <= bottom:
                i = int(r * columns + left)
                while i <= r * columns + right:
                    nearest[i] = FAR
                    i += 1
                r += 1
            p += 1
        both = float(0.0)
        either = float(0.0)
        i = int(0)
        while i < rows * columns:
            # Where the robot nearly always is, the median image shows the robot itself.
            if cover[i][0] < often * float(now.shape[0]):
                both += cover[i][1]
                either += cover[i][0] - cover[i][1] + front[i]
            cover[i] = wp.vec2(0.0, 0.0)
            i += 1
        out[b, 0] = explained
        out[b, 1] = confirmed
        out[b, 2] = said
        out[b, 3] = both
        out[b, 4] = either
        out[b, 5] = on_edge
        out[b, 6] = rim
        b += 1
