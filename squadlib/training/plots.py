"""Pictures for TensorBoard, drawn with Pillow, which comes with it."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw, ImageFont

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 560, 420, 60, 20, 40, 50  # pixels of the picture and its margins
COLOURS = ("#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e", "#8c564b", "#e377c2", "#7f7f7f")
TICKS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)

Curve = tuple[np.ndarray, np.ndarray]  # x and y, 0 to 1


def chart(title: str, x_label: str, y_label: str, curves: dict[str, Curve], *, diagonal: bool = False) -> np.ndarray:
    """A picture of curves between 0 and 1: uint8 (height, width, 3). diagonal: a grey line from 0 to 1."""
    picture = Image.new("RGB", (WIDTH, HEIGHT), "white")
    draw = ImageDraw.Draw(picture)
    font = ImageFont.load_default(size=13)
    for tick in TICKS:
        draw.line([_place(tick, 0), _place(tick, 1)], "#dddddd")
        draw.line([_place(0, tick), _place(1, tick)], "#dddddd")
        x, y = _place(tick, 0)
        draw.text((x, y + 6), f"{tick:.1f}", "black", font, anchor="ma")
        x, y = _place(0, tick)
        draw.text((x - 8, y), f"{tick:.1f}", "black", font, anchor="rm")
    if diagonal:
        draw.line([_place(0, 0), _place(1, 1)], "#999999", 2)
    for number, (name, (xs, ys)) in enumerate(curves.items()):
        colour = COLOURS[number % len(COLOURS)]
        points = [_place(x, y) for x, y in zip(xs.tolist(), ys.tolist(), strict=True)]
        draw.line(points, colour, 2, joint="curve")
        for x, y in points if len(points) <= len(TICKS) * 4 else ():
            draw.ellipse([x - 3, y - 3, x + 3, y + 3], colour)
        draw.text((LEFT + 10, TOP + 8 + 18 * number), name, colour, font)
    draw.text((WIDTH // 2, 12), title, "black", font, anchor="ma")
    draw.text((WIDTH // 2, HEIGHT - 10), x_label, "black", font, anchor="md")
    draw.text((6, 12), y_label, "black", font)
    return np.asarray(picture)


def _place(x: float, y: float) -> tuple[float, float]:
    return LEFT + x * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - y * (HEIGHT - TOP - BOTTOM)
