package matfn

// MsignFlops returns the operations (a multiplication and an addition are two) of steps steps of Msign in its direct form
// on one m x n matrix: 4·max·min² + 2·min³ a step. The normalisation, O(mn), is not counted.
func MsignFlops(m, n, steps int) int64 {
	return directFlops(min(m, n), max(m, n), steps)
}

// MsignFlopsOf returns the operations of the products that Msign really builds for one m x n matrix with these options. Panics as
// Msign does.
func MsignFlopsOf(m, n int, opts ...Option) int64 {
	c := resolve("Msign", 0, []Form{Direct, Gram}, opts)
	steps, form := c.steps(), c.form
	m, n = min(m, n), max(m, n)
	direct, gram := directFlops(m, n, len(steps)), gramFlops(m, n, steps)
	switch {
	case form == Direct, form == Auto && direct <= gram:
		return direct
	default:
		return gram
	}
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
