package run

import (
	"errors"
	"fmt"
	"strings"

	"github.com/polargo/polar/adapter"
	"github.com/polargo/polar/optimizer"
)

// checkPairs reports settings of low-rank pairs that cannot work or would be ignored.
func (c Config) checkPairs() (problems []error) {
	bad := func(failed bool, text string) {
		if failed {
			problems = append(problems, errors.New(text))
		}
	}
	budget := c.SpectralBudget != 0
	bad(budget && c.Rank == 0, "spectral-budget bounds the product of low-rank pairs, and all weights train: give a rank")
	bad(budget && c.Lab == nil && c.Rank > 0 && c.Init != adapter.InitLoRA, "spectral-budget needs init lora: an adapter that starts at A0·B0ᵀ "+
		"is exported as the change s·(A·Bᵀ - A0·B0ᵀ), and the budget bounds s·A·Bᵀ alone")
	bad(budget && len(c.Protect) > 0, "spectral-budget and protect cannot be kept together: bringing A·Bᵀ back to the budget moves it along the protected directions too")
	clipped := c.SpectralBudgetMode == optimizer.BudgetClippedDecay
	bad(!budget && clipped, "spectral-budget-mode clipped-decay has no effect without spectral-budget")
	bad(!clipped && c.SpectralBudgetDecay != optimizer.DefaultBudgetDecay, "spectral-budget-decay is only for spectral-budget-mode clipped-decay")
	bad(c.CertifyInvariance && c.Rank == 0, "certify-invariance re-gauges low-rank pairs, and all weights train: give a rank")
	return problems
}

// planPairs says what a spectral budget and the check of invariance will do.
func (s *Session) planPairs(note func(format string, args ...any)) {
	c := s.Config
	switch {
	case c.SpectralBudget == 0:
	case c.SpectralBudgetMode == optimizer.BudgetClippedDecay:
		note("spectral budget: every step takes %g of what exceeds %g off the singular values of s·A·Bᵀ; steps of norm eta settle %.3g·eta above",
			c.SpectralBudgetDecay, c.SpectralBudget, (1-c.SpectralBudgetDecay)/c.SpectralBudgetDecay)
	default:
		note("spectral budget: the spectral norm of s·A·Bᵀ is at most %g in every layer after every step", c.SpectralBudget)
	}
	if c.CertifyInvariance {
		note("invariance is checked at step %s", strings.Trim(strings.ReplaceAll(fmt.Sprint(certifySteps(s.steps)), " ", ", "), "[]"))
	}
}

// pairsCard is what the card of an adapter says about its budget and its invariance.
func pairsCard(c Config, found *Invariance) (text string) {
	if c.SpectralBudget > 0 && c.SpectralBudgetMode == optimizer.BudgetHardcap {
		text += fmt.Sprintf("\n\nThe spectral norm of what it adds to a weight is at most %g in every layer (spectral budget).", c.SpectralBudget)
	}
	if found != nil {
		text += fmt.Sprintf("\n\nChanging the gauge of its factors, A to A G and B to B G^-T, changed a step's effect on the weights by up to %.1e\n"+
			"of it (%s, bound %g): see %s.", found.WorstDrift, found.Verdict, found.Bound, invarianceFile)
	}
	return text
}
