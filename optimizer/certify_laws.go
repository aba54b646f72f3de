package optimizer

// carry says how an array of a rule's state follows a change of gauge (A, B) → (A G, B G^{-T}), under which gradients become
// ∇_A G^{-T} and ∇_B G.
type carry int

// The laws. The array belongs to the factor that its slot names; its last axis is the pair's rank, except where it is kept.
const (
	// carryKept leaves the array as it is: it does not refer to the factors' columns.
	carryKept carry = iota
	// carryGradient is the law of gradients, and of their averages.
	carryGradient
	// carryFactor is the law of the factors and of steps, A → A G and B → B G^{-T}.
	carryFactor
	// carryGradientSquares multiplies by the squares of the entries that carryGradient multiplies by. Elementwise second moments
	// have no law: this one is right for a scalar gauge, and otherwise for gradients whose columns are uncorrelated.
	carryGradientSquares
	// carryFactorSquares is that for squares of arrays that carryFactor applies to.
	carryFactorSquares
)

// carryOf returns the laws of a rule's state by slot, nil where there are none: then its steps are compared from fresh state.
// A rule is listed by its own type, because one that embeds another may keep other state under the same names.
func carryOf(rule Rule) func(slot string) carry {
	switch rule.(type) {
	case loraMuonRule, loraMuonOGDRule, loraRITECoreRule, factorMuonRule, sMuonRule, sgdRule:
		return moments
	case poloraRule: // its diagonals are of W
		return moments
	case spectronRule: // the vectors of its power iterations are kept: another start, exact for a scalar gauge
		return moments
	case adamRule:
		return func(slot string) carry { return squaresOf(slot, carryGradient, carryGradientSquares) }
	case rprecAdamWRule: // its moments are of ∇_A (BᵀB)⁻¹, which changes as A does
		return func(slot string) carry { return squaresOf(slot, carryFactor, carryFactorSquares) }
	case loraRITERule: // its moments are in the coordinates of bases that are part of the state
		return func(string) carry { return carryKept }
	}
	return nil
}

// moments is the law of averages of gradients, called m…, and of other arrays that a gauge does not touch.
func moments(slot string) carry {
	if slot[0] == 'm' {
		return carryGradient
	}
	return carryKept
}

// squaresOf is the law of first moments, called m…, and of second ones, called v….
func squaresOf(slot string, first, second carry) carry {
	if slot[0] == 'v' {
		return second
	}
	return first
}
