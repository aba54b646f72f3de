package adapter

import (
	"fmt"
	"math"
	"strings"

	"github.com/polargo/polar/internal/nearest"
)

// The initialisations, by name.
const (
	// InitBalanced starts at s·A0 B0ᵀ of random orthonormal factors of equal norm, subtracted from the frozen base.
	InitBalanced = "balanced"
	// InitPiSSA starts at the top singular triplets of the weight, the base keeping the residual (arXiv 2404.02948).
	InitPiSSA = "pissa"
	// InitGradient starts at the top singular vectors of the first batches' full gradient (as LoRA-GA, LoRA-One).
	InitGradient = "gradient"
	// InitLoRA starts with A random and B zero; the base is untouched.
	InitLoRA = "lora"
)

// Inits lists the initialisations.
func Inits() []string { return []string{InitBalanced, InitPiSSA, InitGradient, InitLoRA} }

// Config chooses the layers and the low-rank pairs put on them.
type Config struct {
	// Rank is r, at most min(fan-out, fan-in) of every target.
	Rank int
	// Alpha gives the scale s: Alpha/Rank, or Alpha/sqrt(Rank) with RSLoRA. Positive.
	Alpha  float64
	RSLoRA bool
	// Init is one of Inits.
	Init string
	// Targets are names or patterns as for Select; empty means all layers.
	Targets []string
	// Seed makes the random factors.
	Seed int64
	// InitScale is the RMS→RMS norm of the start's product s·A0 B0ᵀ for "balanced" and "gradient": its singular values are
	// InitScale·sqrt(fan-out/fan-in). Zero means 1, for which s·σ_A σ_B ≥ eta/4 (in the same unit) for every eta ≤ 4,
	// where the second-order term of a step stays below the first-order one (lora-muon: σ_A σ_B ≳ eta/4).
	InitScale float64
}

// Scale returns s.
func (c Config) Scale() float64 {
	if c.RSLoRA {
		return c.Alpha / math.Sqrt(float64(c.Rank))
	}
	return c.Alpha / float64(c.Rank)
}

// Check returns an error for a rank below 1, an alpha or init scale that is not positive and finite, or an unknown
// initialisation. Whether the rank fits the layers is checked when the pairs are made.
func (c Config) Check() error {
	switch {
	case c.Rank < 1:
		return fmt.Errorf("rank %d: want at least 1", c.Rank)
	case !(c.Alpha > 0) || math.IsInf(c.Alpha, 0):
		return fmt.Errorf("alpha %g: want a positive number", c.Alpha)
	case c.InitScale < 0 || math.IsNaN(c.InitScale) || math.IsInf(c.InitScale, 0):
		return fmt.Errorf("init scale %g: want a positive number, or 0 for the default", c.InitScale)
	}
	for _, known := range Inits() {
		if c.Init == known {
			return nil
		}
	}
	return fmt.Errorf("unknown init %q; known: %s (did you mean %q?)", c.Init, strings.Join(Inits(), ", "), nearest.Words(c.Init, Inits(), 1)[0])
}

// startsAtZero reports whether the product A0 B0ᵀ is zero, so that the base needs no adjustment.
func (c Config) startsAtZero() bool { return c.Init == InitLoRA }

func (c Config) initScale() float64 {
	if c.InitScale == 0 {
		return 1
	}
	return c.InitScale
}
