"""The recurrence of an LSTM in several networks at once, and its derivative written out.

    i, f, g, o = sigma(a_1), sigma(a_2), tanh(a_3), sigma(a_4)    with    a_t = inputs_t + W h_{t-1}
    c_t = f c_{t-1} + i g,   h_t = o tanh(c_t)

in torch's order of the gates. Torch's own LSTM takes one network at a time, whose products are too small to fill an
accelerator. Backwards, all factors that do not depend on what comes later are made at once, so that a session costs six
small operations.

Sources: Hochreiter and Schmidhuber, Long short-term memory, Neural Computation 9(8), 1997; Gers, Schmidhuber and
Cummins, Learning to forget, Neural Computation 12(10), 2000 (the gate f).
"""
# Shapes: G = networks, S = sessions, B = sequences of a network, H = hidden units.

from typing import Any

import torch
from torch import Tensor


def states(inputs: Tensor, weight: Tensor) -> Tensor:
    """States after each session, from a zero state: inputs (G, S, B, 4H) and weights (G, 4H, H) to (G, S, B, H)."""
    return _Recurrence.apply(inputs, weight)


class _Recurrence(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, inputs: Tensor, weight: Tensor) -> Tensor:
        gates, hidden = inputs.clone(), weight.shape[2]
        cells = gates.new_empty((*gates.shape[:3], hidden))
        states = torch.empty_like(cells)
        squashed = torch.empty_like(cells[:, 0])
        across = weight.transpose(1, 2)
        for t in range(gates.shape[1]):
            now, cell = gates[:, t], cells[:, t]
            if t:
                now.baddbmm_(states[:, t - 1], across)
            now[..., : 2 * hidden].sigmoid_()
            now[..., 2 * hidden : 3 * hidden].tanh_()
            now[..., 3 * hidden :].sigmoid_()
            i, f, g, o = now.chunk(4, dim=-1)
            torch.mul(i, g, out=cell)
            if t:
                cell.addcmul_(f, cells[:, t - 1])
            torch.tanh(cell, out=squashed)
            torch.mul(o, squashed, out=states[:, t])
        ctx.save_for_backward(gates, cells, states, weight)
        return states

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor]:
        gates, cells, states, weight = ctx.saved_tensors
        hidden, length = weight.shape[2], gates.shape[1]
        i, f, g, o = gates.chunk(4, dim=-1)
        squashed = cells.tanh()
        through = o * (1 - squashed**2)  # of the cell by its state
        before = torch.zeros_like(cells)
        before[:, 1:] = cells[:, :-1]
        # derivatives of the gates' inputs but for the factor that runs backwards, the cell's or the state's
        slopes = torch.cat([g * i * (1 - i), before * f * (1 - f), i * (1 - g**2), squashed * o * (1 - o)], dim=-1)
        state, cell = grads[0][:, -1].clone(), torch.zeros_like(cells[:, 0])
        for t in reversed(range(length)):
            now = slopes[:, t]
            cell.addcmul_(state, through[:, t])
            now[..., : 3 * hidden].unflatten(-1, (3, hidden)).mul_(cell.unsqueeze(-2))
            now[..., 3 * hidden :].mul_(state)
            if t:
                cell.mul_(f[:, t])
                torch.baddbmm(grads[0][:, t - 1], now, weight, out=state)
        earlier, later = states[:, :-1].flatten(1, 2), slopes[:, 1:].flatten(1, 2)
        return slopes, later.transpose(1, 2) @ earlier
