package gemm

// Sizes of blocks, in elements of 4 bytes, for 32 KB of first-level and 1 MB of second-level cache.
const (
	kcMax     = 384       // a panel of 12 rows of A is then 18 KB and stays in the first level
	blockB    = 128 << 10 // elements of packed B that a block uses: half of the second level
	sharedB   = 1 << 20   // elements of packed B for all workers at once
	taskFlops = 1 << 21   // about 20 microseconds of work: less is not worth handing out
	dotsMax   = 3         // rows up to which products of contiguous vectors are better than packing
)

// orient decides whether the transposed product is computed, and fills the fields of what is computed.
func (p *Plan[T]) orient() {
	s := p.spec
	p.m, p.n, p.k, p.a, p.b, p.c = s.M, s.N, s.K, s.A, s.B, s.C
	p.aOff, p.bOff, p.cOff = s.AOffsets, s.BOffsets, s.COffsets
	if s.COffsets == nil {
		p.aOff, p.bOff, p.cOff = zero, zero, zero
	}
	// A C of one row or column may be seen either way. One row is wanted: the kernels' vectors lie along it.
	if s.N == 1 {
		p.c.Col = 1
	}
	if s.M == 1 {
		p.c.Row = 1
	}
	switch {
	case s.M == 1:
		p.swapped = false
	case s.N == 1:
		p.swapped = true
	default:
		p.swapped = p.c.Row == 1 && p.c.Col != 1
	}
	if s.BF16 || p.swapped {
		// nothing more
	} else if p.n <= dotsMax && p.b.Row == 1 && p.a.Col == 1 && p.m > p.n {
		p.swapped = true
	}
	if p.swapped {
		p.m, p.n = p.n, p.m
		p.a, p.b, p.c = p.b.transposed(), p.a.transposed(), p.c.transposed()
		p.aOff, p.bOff = p.bOff, p.aOff
	}
	if p.k == 1 { // strides along k do not matter
		p.a.Col, p.b.Row = 1, p.n
	}
	if p.kernels.pairs {
		p.k = (p.k + 1) / 2
	}
}

// choose picks the case and the sizes of blocks. Nothing here depends on the number of workers.
func (p *Plan[T]) choose() {
	ker := &p.kernels
	p.parts, p.group, p.kc, p.ks, p.nc, p.mb, p.nb = 1, 1, max(p.k, 1), p.k, p.n, p.m, p.n
	if p.m == 0 || p.n == 0 || p.k == 0 {
		return
	}
	if p.m <= dotsMax && p.a.Col == 1 && p.b.Row == 1 && p.b.Col != 1 && !p.spec.BF16 && ker.dots != nil {
		p.dots = true
		p.nb = clamp(taskFlops/(2*p.m*p.k)/8*8, 8, p.n)
		p.groupProducts()
		return
	}
	p.tile = p.c.Col != 1
	p.kc = even(p.k, kcMax, 8)
	p.nb = even(p.n, max(ker.nr, blockB/p.kc/ker.nr*ker.nr), ker.nr)
	must := p.b.Col != 1 || p.spec.BF16 // B must be packed
	p.mb = even(p.m, 16*ker.mr, ker.mr)
	switch {
	case p.m <= 4*ker.mr:
		p.mb = p.m
		p.bMode = bDirect
		if must {
			p.bMode = bLocal
		}
	case !must && p.k*p.n <= blockB/2 && p.b.Row*4%1024 != 0:
		p.bMode = bDirect
	default:
		p.bMode = bShared
	}
	p.aCopy = p.spec.BF16 || p.nb >= 4*ker.nr && (p.a.Col > 64 || p.a.Col == 1 && p.a.Row*4%1024 == 0)
	p.aRows = p.aCopy && p.a.Col == 1 && !p.spec.BF16
	if p.aCopy && !p.aRows {
		p.mb = even(p.m, 8*ker.mr, ker.mr)
	}
	p.cut()
	p.groupProducts()
	if p.bMode == bShared && p.mb == p.m {
		p.bMode = bLocal
	}
	p.ks = min(p.k, max(1, sharedB/min(p.n, 1024)/p.kc)*p.kc)
	p.nc = min(p.n, max(p.nb, sharedB/p.ks/p.nb*p.nb))
	if p.tile {
		p.nb = min(p.nb, 16*ker.nr)
		p.mb = min(p.mb, 4*ker.mr)
	}
}

// cut makes blocks smaller until there are enough tasks, but not below taskFlops.
func (p *Plan[T]) cut() {
	const enough = 16
	for {
		tasks := p.batch * ceil(p.m, p.mb) * ceil(p.n, p.nb)
		if tasks >= enough || 2*p.mb*p.nb*p.k*p.kernels.terms() <= 2*taskFlops {
			return
		}
		switch mr, nr := p.kernels.mr, p.kernels.nr; {
		case p.mb > 2*mr && p.m > 4*mr:
			p.mb = even(p.m, max(p.mb/2, mr), mr)
		case p.nb > 2*nr:
			p.nb = even(p.n, max(p.nb/2, nr), nr)
		default:
			return
		}
	}
}

// groupProducts puts several small products into a task.
func (p *Plan[T]) groupProducts() {
	if p.mb < p.m || p.nb < p.n {
		return
	}
	one := 2 * p.m * p.n * p.k
	p.group = clamp(taskFlops/max(one, 1), 1, max(1, p.batch/8))
	if p.bMode == bShared {
		p.bMode = bLocal
	}
}

func ceil(a, b int) int { return (a + b - 1) / b }

func clamp(x, low, high int) int { return max(min(x, high), low) }

// even is the size of the pieces when n is cut into the fewest pieces of at most limit, all about as large, in multiples of unit.
func even(n, limit, unit int) int {
	if n <= limit {
		return n
	}
	return min(n, ceil(ceil(n, ceil(n, limit)), unit)*unit)
}

// sharedLen is the scratch for packed B of all workers.
func (p *Plan[T]) sharedLen() int {
	if p.bMode != bShared {
		return 0
	}
	return p.ks * ceil(p.nc, p.kernels.nr) * p.kernels.nr
}

// The parts of a worker's scratch.
func (p *Plan[T]) workerLen() int { return p.aLen() + p.bLen() + p.cLen() }

func (p *Plan[T]) aLen() int {
	if !p.aCopy {
		return 0
	}
	if p.aRows {
		return p.kernels.mr * p.aStride()
	}
	return ceil(p.mb, p.kernels.mr) * p.kernels.mr * p.kc
}

// aStride is the distance of copied rows of A: a cache line more than a multiple of 256 bytes, so that they fall into
// different sets.
func (p *Plan[T]) aStride() int { return ceil(p.kc, 64)*64 + 16 }

func (p *Plan[T]) bLen() int {
	if p.bMode != bLocal {
		return 0
	}
	return p.kc * ceil(p.nb, p.kernels.nr) * p.kernels.nr
}

func (p *Plan[T]) cLen() int {
	switch {
	case p.dots:
		return dotsMax * p.nb
	case p.tile:
		return p.mb * p.nb
	}
	return 0
}
