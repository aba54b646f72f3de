package manifold

import "github.com/polargo/polar/matfn"

// The functions here return operations (a multiplication and an addition are two) of the matrix products that are built for one
// m x n matrix. They panic for a set or a solver that does not validate.

// RetractFlops returns the operations of Set.Retract.
func (s Set) RetractFlops(m, n int, opts ...matfn.Option) int64 {
	s.mustValidate()
	switch s.Name {
	case PSD:
		return matfn.ProjPSDFlops(m, opts...)
	case Spectrahedron:
		return matfn.EigClipFlops(m, opts...)
	}
	lo, hi := s.band()
	return matfn.SpectralClipFlops(m, n, lo, hi, opts...)
}

// TangentFlops returns the operations of TangentPSD and the other projections.
func (s Set) TangentFlops(m, n int, opts ...matfn.Option) int64 {
	s.mustValidate()
	return s.coneFlops(m, n, opts) + s.projectFlops(m, n, opts)
}

// DirectionFlops returns the operations of Direction in the given set, for PDHG of as many iterations as it may take.
func (s Solver) DirectionFlops(set Set, m, n int, opts ...matfn.Option) int64 {
	if err := s.Validate(); err != nil {
		panic(err)
	}
	set.mustValidate()
	steps := int64(s.resolved().Steps)
	inside := iterationOptions(opts)
	best, project := int64(0), set.projectFlops(m, n, inside)
	if s.Norm == Spectral {
		best = matfn.MsignFlopsOf(m, n, inside...)
	}
	cone := set.coneFlops(m, n, opts)
	if set.Name != Spectrahedron { // the norm of w
		cone += matfn.SpectralNormFlops(m, n, matfn.MinPowerSteps)
	}
	switch s.Name {
	case Alternating:
		clean := int64(0)
		if s.Norm == Spectral {
			m, n := int64(min(m, n)), int64(max(m, n))
			clean = 2 * (2*n*m*m + m*m*m)
		}
		return cone + steps*(project+best) + (steps-1)*clean
	case PDHG:
		bounded := int64(0)
		switch {
		case s.Norm == Frobenius:
		case set.Symmetric():
			bounded = matfn.EigClipFlops(m, inside...)
		default:
			bounded = matfn.SpectralClipFlops(m, n, 0, 1, inside...)
		}
		return cone + 2*(project+best) + steps*(project+bounded) // the start, from nothing and from the step before
	case Dual:
		return cone + 2*project + 2*best + steps*(project+best) + set.liftFlops(m, n) // the last for the next step's start
	}
	return best
}

func (s Set) mustValidate() {
	if err := s.Validate(); err != nil {
		panic(err)
	}
}

// bounds returns how many bounds the set has, of which a projection is a face.
func (s Set) bounds() int64 {
	switch s.Name {
	case Spectrahedron, Band:
		return 2
	}
	return 1
}

// coneFlops returns the operations of finding what is at the bounds.
func (s Set) coneFlops(m, n int, opts []matfn.Option) int64 {
	m, n = min(m, n), max(m, n)
	switch {
	case s.Name == Stiefel:
		return 0
	case s.Symmetric():
		return s.bounds() * matfn.EigStepFlops(m, opts...)
	}
	wide := 2 * int64(n) * int64(m) * int64(m)
	return s.bounds() * (matfn.EigStepFlops(m, opts...) + 2*wide)
}

// liftFlops returns the operations of adding up what belongs to the multipliers.
func (s Set) liftFlops(m, n int) int64 {
	if s.Symmetric() {
		return 0
	}
	return s.bounds() * 2 * int64(max(m, n)) * int64(min(m, n)) * int64(min(m, n))
}

// projectFlops returns the operations of one projection onto a cone, or of one step on its multipliers.
func (s Set) projectFlops(m, n int, opts []matfn.Option) int64 {
	m, n = min(m, n), max(m, n)
	wide, side := 2*int64(n)*int64(m)*int64(m), 2*int64(m)*int64(m)*int64(m)
	switch {
	case s.Name == Stiefel:
		return 2 * wide
	case s.Symmetric():
		return s.bounds() * (2*side + matfn.ProjPSDFlops(m, opts...))
	}
	return s.bounds() * (2*wide + side + matfn.ProjPSDFlops(m, opts...))
}
