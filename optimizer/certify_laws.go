package optimizer

// Carry says how an array of a rule's state follows a change of gauge (A, B) → (A G, B G^{-T}), under which gradients become
// ∇_A G^{-T} and ∇_B G.
type Carry int

// The laws. The array belongs to the factor that its slot names; its last axis is the pair's rank, except where it is kept.
const (
	// CarryKept leaves the array as it is: it does not refer to the factors' columns.
	CarryKept Carry = iota
	// CarryGradient is the law of gradients, and of their averages.
	CarryGradient
	// CarryFactor is the law of the factors and of steps, A → A G and B → B G^{-T}.
	CarryFactor
	// CarryGradientSquares multiplies by the squares of the entries that CarryGradient multiplies by. Elementwise second moments
	// have no law: this one is right for a scalar gauge, and otherwise for gradients whose columns are uncorrelated.
	CarryGradientSquares
	// CarryFactorSquares is that for squares of arrays that CarryFactor applies to.
	CarryFactorSquares
)

// Carrier is a Rule that says how its state follows a change of gauge. The steps of a rule that does not say it are compared
// from fresh state.
type Carrier interface {
	// Carry returns the law of the state array called slot, of which a rule of the Flat layout has one for both factors.
	Carry(slot string) Carry
}

// moments is the law of averages of gradients, called m…, and of other arrays that a gauge does not touch.
func moments(slot string) Carry {
	if slot[0] == 'm' {
		return CarryGradient
	}
	return CarryKept
}

// squaresOf is the law of first moments, and of second moments called v….
func squaresOf(slot string, first, second Carry) Carry {
	if slot[0] == 'v' {
		return second
	}
	return first
}

// Carry of lora-muon, and of lora-muon-ogd, whose multiplier belongs to W.
func (loraMuonRule) Carry(slot string) Carry     { return moments(slot) }
func (loraRITECoreRule) Carry(slot string) Carry { return moments(slot) }
func (factorMuonRule) Carry(slot string) Carry   { return moments(slot) }
func (sMuonRule) Carry(slot string) Carry        { return moments(slot) }
func (sgdRule) Carry(slot string) Carry          { return moments(slot) }

// Carry of adamw: first and second moments of gradients.
func (adamRule) Carry(slot string) Carry {
	return squaresOf(slot, CarryGradient, CarryGradientSquares)
}

// Carry of rprec-adamw: its moments are of ∇_A (BᵀB)⁻¹, which changes as A does.
func (rprecAdamWRule) Carry(slot string) Carry {
	return squaresOf(slot, CarryFactor, CarryFactorSquares)
}

// Carry of lora-rite: its moments are in the coordinates of bases that are part of the state.
func (loraRITERule) Carry(string) Carry { return CarryKept }

// Carry of spectron: the vectors of its power iterations have no law. Kept, they are right for a scalar gauge, and for others a
// start like any.
func (spectronRule) Carry(slot string) Carry { return moments(slot) }
