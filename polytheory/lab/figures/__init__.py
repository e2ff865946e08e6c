"""Figures in one style, as vector files that come out the same byte for byte, and a page with the numbers behind them."""

from polytheory.lab.figures.drawing import draw as draw
from polytheory.lab.figures.page import Shown as Shown
from polytheory.lab.figures.page import page as page
from polytheory.lab.figures.style import COLOURS as COLOURS
from polytheory.lab.figures.style import save as save
