"""What the client raises on purpose, beside TypeError and ValueError for mistakes in the program that uses it.

CostdClientError
└── BudgetExceeded          the call may not be made
"""

from __future__ import annotations


class CostdClientError(Exception):
    """Something of costd's."""


class BudgetExceeded(CostdClientError):
    """The call may not be made."""
