package matfn

import "math"

// MsignFlops returns the operations (a multiplication and an addition are two) of steps steps of Msign in its direct form
// on one m x n matrix: 4·max·min² + 2·min³ a step. The normalisation, O(mn), is not counted.
func MsignFlops(m, n, steps int) int64 {
	return directFlops(min(m, n), max(m, n), steps)
}

// MsignFlopsOf returns the operations of the products that Msign really builds for one m x n matrix with these options. Panics as
// Msign does.
func MsignFlopsOf(m, n int, opts ...Option) int64 {
	c := resolve("Msign", 0, []Form{Direct, Gram}, opts)
	m, n = min(m, n), max(m, n)
	if c.exact {
		return c.flops(m, n) + boundFlops(m, n)
	}
	return c.flops(m, n)
}

// SpectralClipFlops returns the operations of the products of SpectralClip for one m x n matrix; those of SpectralHardcap and
// SpectralClippedWeightDecay have lo 0, those of SpectralReLU an infinite hi. For m = n, one bound and T steps (13 by
// default) they are 12T + 28 times m³ in the projected form, 12T + 12 nested and 36T + 14 blockwise, where it is the
// longer side that counts. Panics for a form that a clip does not have.
func SpectralClipFlops(m, n int, lo, hi float64, opts ...Option) int64 {
	c := spectralConfig("SpectralClip", opts)
	m, n = min(m, n), max(m, n)
	side, wide := 2*cube(m), 2*int64(n)*int64(m)*int64(m) // of [m, m]·[m, m] and of [m, m]·[m, n]
	total := boundFlops(m, n)
	below, above := lo > 0, !math.IsInf(hi, 1)
	switch {
	case hi == 0:
		return total
	case lo == hi:
		return total + c.flops(m, n)
	case above && c.form == Blockwise:
		long := 2 * int64(n) * int64(n) * int64(m)
		total += int64(3*len(c.steps()))*(side+2*wide+2*long+2*cube(n)) + 2*wide + long
		if !below {
			return total
		}
		above = false
	case above && c.form == Projected:
		total += 3 * (side + wide) // the rest of w and what comes in its place
	}
	total += c.flops(m, n) + wide // the polar factor and the root
	for _, bound := range []bool{below, above} {
		if !bound {
			continue
		}
		total += c.flops(m, m) + wide // the sign, and its product with something wide
		if c.form != Nested {
			total += 2 * side // purified
		}
	}
	return total
}

// EigClipFlops returns the operations of the products of EigClip for one m x m matrix.
func EigClipFlops(m int, opts ...Option) int64 { return eigFlops("EigClip", m, 2, 2+5+2, opts) }

// EigReLUFlops returns the operations of the products of EigReLU, or of EigHardcap, for one m x m matrix.
func EigReLUFlops(m int, opts ...Option) int64 { return eigFlops("EigReLU", m, 1, 5+2, opts) }

// ProjPSDFlops returns the operations of the products of ProjPSD, or of ProjNSD, for one m x m matrix.
func ProjPSDFlops(m int, opts ...Option) int64 { return eigFlops("ProjPSD", m, 1, 3+2, opts) }

// EigStepFlops returns the operations of the products of EigStep for one m x m matrix.
func EigStepFlops(m int, opts ...Option) int64 { return eigFlops("EigStep", m, 1, 3, opts) }

// eigFlops returns the operations of so many signs and other products.
func eigFlops(function string, m, signs, products int, opts []Option) int64 {
	c := clipConfig(function, eigForms, opts)
	return boundFlops(m, m) + int64(signs)*c.flops(m, m) + 2*int64(products)*cube(m)
}

// flops returns the operations of a polar factor of a wide matrix with a given bound of its norm.
func (c config) flops(m, n int) int64 {
	steps := c.steps()
	direct, gram := directFlops(m, n, len(steps)), gramFlops(m, n, steps)
	if c.form == Gram || c.form == Auto && gram < direct {
		return gram
	}
	return direct
}

// boundFlops returns the operations of schattenBound of the Gram matrix of a wide matrix.
func boundFlops(m, n int) int64 { return 2 * (int64(n)*int64(m)*int64(m) + 3*cube(m)) }

// InvSqrtFlopsOf returns the operations of the products that InvSqrt builds for one r x r matrix with these options.
func InvSqrtFlopsOf(r int, opts ...Option) int64 {
	if !resolve("InvSqrt", 0, nil, opts).exact {
		return InvSqrtFlops(r, RootSteps)
	}
	// The root, a bound of the norm by three squarings, and the projector and its square.
	return InvSqrtFlops(r, len(exactRoot())) + 2*3*cube(r) + directFlops(r, r, len(exactProjector())) + 2*cube(r)
}

// InvSqrtFlops returns the operations of steps steps of InvSqrt on one r x r matrix: 8r³ a step, less the first product
// with I and the last update of P.
func InvSqrtFlops(r, steps int) int64 {
	if steps == 0 {
		return 0
	}
	return int64(2*(4*steps-3)) * cube(r)
}

func directFlops(m, n, steps int) int64 {
	return int64(steps) * (4*int64(n)*int64(m)*int64(m) + 2*cube(m))
}

func gramFlops(m, n int, steps Schedule) int64 {
	var total int64
	for _, segment := range segments(steps) {
		total += 4*int64(n)*int64(m)*int64(m) + int64(2*(4*len(segment)-3))*cube(m)
	}
	return total
}

func cube(m int) int64 { return int64(m) * int64(m) * int64(m) }

// SpectralNormFlops returns the operations of SpectralNorm with steps steps on one m x n matrix.
func SpectralNormFlops(m, n, steps int) int64 {
	return 2 * int64(2*steps+1) * int64(m) * int64(n)
}
