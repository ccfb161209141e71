# mypy: ignore-errors
"""Warp kernels of `rasterizer`: corners into the image, triangles to a z-buffer, that to arrays.

A thread has one frame and every ``threads``-th item of it. On a CPU Warp runs one thread after
another, and to find a thread's number costs as much as a small triangle: there one thread a frame
takes all items.

Warp reads annotations and ``float(0.0)`` as its own language: they are types and variables there.
"""

import warp as wp

mat34 = wp.types.matrix(shape=(3, 4), dtype=float)
# Pixels by which triangles are grown: a pixel centre on the edge of two must be in one of them,
# whatever the rounding.
SLACK = wp.constant(1.0e-4)


@wp.func
def cell(u: float, v: float, height: int, width: int):
    """Pixel centres to the left of u, and those above v in the upper half of the bits."""
    # Clamped before they become integers, for which a corner close to the camera may be too far.
    column = int(wp.clamp(u, 0.0, float(width)) + 0.5)
    return column | (int(wp.clamp(v, 0.0, float(height)) + 0.5) << 16)


@wp.kernel(enable_backward=False)
def place_kernel(
    image_from_link: wp.array2d(dtype=mat34),
    vertex: wp.array(dtype=wp.vec3),
    vertex_link: wp.array(dtype=int),
    near: float,
    height: int,
    width: int,
    threads: int,
    placed: wp.array2d(dtype=wp.vec3),
    cells: wp.array2d(dtype=int),
):
    """Corners as (u, v, 1 / z) and their cells; nearer than the near plane it is (u z, v z,
    z - near <= 0) and -1.
    """
    t, thread = wp.tid()
    for i in range(thread, vertex.shape[0], threads):
        x = vertex[i]
        p = image_from_link[t, vertex_link[i]] * wp.vec4(x[0], x[1], x[2], 1.0)
        if p[2] > near:
            q = 1.0 / p[2]
            u = p[0] * q
            v = p[1] * q
            placed[t, i] = wp.vec3(u, v, q)
            cells[t, i] = cell(u, v, height, width)
        else:
            placed[t, i] = wp.vec3(p[0], p[1], p[2] - near)
            cells[t, i] = -1


@wp.func
def cut(before: wp.vec3, behind: wp.vec3, near: float):
    """Where an edge meets the near plane, of and as what `place_kernel` gives."""
    z = 1.0 / before[2]
    share = (z - near) / (z - near - behind[2])
    u = (1.0 - share) * before[0] * z + share * behind[0]
    v = (1.0 - share) * before[1] * z + share * behind[1]
    return wp.vec3(u / near, v / near, 1.0 / near)


@wp.func
def fill(
    a: wp.vec3,
    b: wp.vec3,
    c: wp.vec3,
    cell_a: int,
    cell_b: int,
    cell_c: int,
    low: wp.uint64,
    frame: int,
    height: int,
    width: int,
    nearest: wp.array(dtype=wp.uint64),
):
    """Draw a triangle of corners (u, v, 1 / z), which is linear over the image."""
    column_a = cell_a & 0xFFFF
    column_b = cell_b & 0xFFFF
    column_c = cell_c & 0xFFFF
    u0 = wp.min(column_a, wp.min(column_b, column_c))
    u1 = wp.max(column_a, wp.max(column_b, column_c))
    v0 = wp.min(cell_a, wp.min(cell_b, cell_c)) >> 16
    v1 = wp.max(cell_a, wp.max(cell_b, cell_c)) >> 16
    # Against corner a: edges of small triangles keep their precision far from the image's origin.
    ua = a[0]
    va = a[1]
    ub = b[0] - ua
    vb = b[1] - va
    uc = c[0] - ua
    vc = c[1] - va
    # Twice the area; rows go down, so corners that run anticlockwise have it positive like this.
    area = uc * vb - ub * vc
    if area > 0.0:
        slack = -SLACK * (wp.abs(ub) + wp.abs(vb) + wp.abs(uc) + wp.abs(vc))
        whole = 1.0 / area
        by_b = (b[2] - a[2]) * whole
        by_c = (c[2] - a[2]) * whole
        for v in range(v0, v1):
            y = float(v) + 0.5 - va
            row = (frame * height + v) * width
            for u in range(u0, u1):
                x = float(u) + 0.5 - ua
                # Areas against the edges: shares of corners b, c and a, times the whole.
                of_b = uc * y - x * vc
                of_c = x * vb - ub * y
                if wp.min(wp.min(of_b, of_c), area - of_b - of_c) >= slack:
                    q = a[2] + of_b * by_b + of_c * by_c
                    key = (wp.uint64(wp.cast(q, wp.uint32)) << wp.uint64(32)) | low
                    wp.atomic_max(nearest, row + u, key)


@wp.func
def fill_cut(
    a: wp.vec3,
    b: wp.vec3,
    c: wp.vec3,
    low: wp.uint64,
    frame: int,
    height: int,
    width: int,
    nearest: wp.array(dtype=wp.uint64),
):
    """`fill` of corners of which the cells are not known."""
    cell_a = cell(a[0], a[1], height, width)
    cell_b = cell(b[0], b[1], height, width)
    cell_c = cell(c[0], c[1], height, width)
    fill(a, b, c, cell_a, cell_b, cell_c, low, frame, height, width, nearest)


@wp.kernel(enable_backward=False)
def draw_kernel(
    placed: wp.array2d(dtype=wp.vec3),
    cells: wp.array2d(dtype=int),
    corner: wp.array(dtype=wp.vec3i),
    link: wp.array(dtype=int),
    plane: wp.array(dtype=wp.vec4),
    eye: wp.array2d(dtype=wp.vec3),
    near: float,
    height: int,
    width: int,
    threads: int,
    nearest: wp.array(dtype=wp.uint64),
):
    """Front faces into ``nearest``: the bits of 1 / z, which order as it does, above the index."""
    t, thread = wp.tid()
    for i in range(thread, corner.shape[0], threads):
        side = plane[i]
        o = eye[t, link[i]]
        if side[0] * o[0] + side[1] * o[1] + side[2] * o[2] > side[3]:
            ids = corner[i]
            cell_a = cells[t, ids[0]]
            cell_b = cells[t, ids[1]]
            cell_c = cells[t, ids[2]]
            # Most triangles lie between two columns or rows of pixel centres and hold none.
            apart = (cell_a ^ cell_b) | (cell_b ^ cell_c)
            if (apart & 0xFFFF) != 0 and (apart >> 16) != 0:
                a = placed[t, ids[0]]
                b = placed[t, ids[1]]
                c = placed[t, ids[2]]
                low = wp.uint64(i)
                before = int(a[2] > 0.0) + int(b[2] > 0.0) + int(c[2] > 0.0)
                if before == 3:
                    fill(a, b, c, cell_a, cell_b, cell_c, low, t, height, width, nearest)
                elif before > 0:
                    # Turned so that d is alone on its side of the near plane.
                    alone = before == 1
                    d = a
                    e = b
                    f = c
                    if (b[2] > 0.0) == alone and (a[2] > 0.0) != alone:
                        d = b
                        e = c
                        f = a
                    elif (c[2] > 0.0) == alone and (a[2] > 0.0) != alone:
                        d = c
                        e = a
                        f = b
                    if alone:
                        e = cut(d, e, near)
                        f = cut(d, f, near)
                        fill_cut(d, e, f, low, t, height, width, nearest)
                    else:
                        g = cut(e, d, near)
                        fill_cut(g, e, f, low, t, height, width, nearest)
                        fill_cut(g, f, cut(f, d, near), low, t, height, width, nearest)


@wp.kernel(enable_backward=False)
def read_kernel(
    nearest: wp.array2d(dtype=wp.uint64),
    link: wp.array(dtype=int),
    threads: int,
    depth: wp.array2d(dtype=float),
    triangle: wp.array2d(dtype=int),
    part: wp.array2d(dtype=wp.uint8),
):
    t, thread = wp.tid()
    for i in range(thread, nearest.shape[1], threads):
        key = nearest[t, i]
        if key > wp.uint64(0):
            drawn = int(key & wp.uint64(0xFFFFFFFF))
            depth[t, i] = 1.0 / wp.cast(wp.uint32(key >> wp.uint64(32)), float)
            triangle[t, i] = drawn
            part[t, i] = wp.uint8(link[drawn] + 1)
        else:
            depth[t, i] = 0.0
            triangle[t, i] = -1
            part[t, i] = wp.uint8(0)
