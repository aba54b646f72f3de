package gemm

import "unsafe"

// Sizes of blocks, in elements of 4 bytes, for 32 KB of first-level and 1 MB of second-level cache.
const (
	kcMax     = 384       // a panel of 12 rows of A is then 18 KB and stays in the first level
	blockB    = 128 << 10 // elements of packed B that a block uses: half of the second level
	sharedB   = 1 << 20   // elements of packed B for all workers at once
	enough    = 12        // tasks: as many as keep some workers busy to the end
	taskFlops = 1 << 21   // about 20 microseconds of work: less is not worth handing out
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
	if !p.swapped && p.n <= p.kernels.dotRows && p.b.Row == 1 && p.a.Col == 1 && p.m > p.n && !p.emulated() {
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
	p.group, p.kc, p.ks, p.nc, p.mb, p.nb = 1, max(p.k, 1), p.k, p.n, p.m, p.n
	if p.m == 0 || p.n == 0 || p.k == 0 {
		return
	}
	if p.m <= ker.dotRows && p.a.Col == 1 && p.b.Row == 1 && p.b.Col != 1 && !p.emulated() {
		p.dots = true
		p.nb = clamp(taskFlops/(2*p.m*p.k)/8*8, min(8, p.n), p.n)
		p.groupProducts()
		return
	}
	p.tile = p.c.Col != 1
	p.kc = even(p.k, kcMax, 8)
	p.nb = even(p.n, max(ker.nr, blockB/p.kc/ker.nr*ker.nr), ker.nr)
	must := p.b.Col != 1 || p.spec.BF16 // B must be packed
	switch {
	case !must && (p.m <= 4*ker.mr || p.k*p.n <= blockB/2 && !p.crowded(p.b.Row)):
		p.bMode = bDirect
		p.mb = even(p.m, 16*ker.mr, ker.mr)
	case p.m <= 4*ker.mr || p.batch*ceil(p.n, p.nb) >= enough:
		p.bMode = bLocal
	default:
		p.bMode = bShared
		p.mb = even(p.m, 8*ker.mr, ker.mr)
	}
	p.aCopy = p.spec.BF16 || p.nb >= 4*ker.nr && (p.a.Col > 64 || p.a.Col == 1 && p.crowded(p.a.Row))
	p.aRows = p.aCopy && p.a.Col == 1 && (!p.spec.BF16 || ker.pairs)
	if p.tile {
		p.nb = min(p.nb, 16*ker.nr)
		p.mb = min(p.mb, 8*ker.mr)
	}
	p.cut()
	p.groupProducts()
	p.ma = p.mb
	if p.aCopy && !p.aRows {
		p.ma = even(p.mb, 8*ker.mr, ker.mr)
	}
	if p.bMode == bShared {
		p.ks = min(p.k, max(1, sharedB/min(p.n, 1024)/p.kc)*p.kc)
		p.nc = min(p.n, max(p.nb, sharedB/p.ks/p.nb*p.nb))
	}
}

// emulated says whether operands are rounded to bfloat16 while packed, for the kernels of float32.
func (p *Plan[T]) emulated() bool { return p.spec.BF16 && !p.kernels.pairs }

// crowded says whether lines at this stride, in elements, fall into few sets of the first-level cache.
func (p *Plan[T]) crowded(stride int) bool {
	return stride*int(unsafe.Sizeof(T(0)))%1024 == 0
}

// cut makes blocks smaller until there are enough tasks, but not below taskFlops.
func (p *Plan[T]) cut() {
	mr, nr := p.kernels.mr, p.kernels.nr
	for {
		tasks := p.batch * ceil(p.m, p.mb) * ceil(p.n, p.nb)
		switch {
		case tasks >= enough || p.mb*p.nb*p.k*p.kernels.terms() < taskFlops:
			return
		case p.mb > 4*mr && p.bMode != bLocal:
			p.mb = even(p.m, max(p.mb/2, mr), mr)
		case p.nb > 2*nr:
			p.nb = even(p.n, max(p.nb/2, nr), nr)
		case p.mb > mr && p.bMode != bLocal:
			p.mb = even(p.m, max(p.mb/2, mr), mr)
		case p.nb > nr:
			p.nb = nr
		default:
			return
		}
	}
}

// groupProducts puts several small products into a task; one that is a single block packs its own B.
func (p *Plan[T]) groupProducts() {
	if p.mb < p.m || p.nb < p.n {
		return
	}
	p.group = max(1, taskFlops/4/(2*p.m*p.n*p.k*p.kernels.terms()))
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
	return ceil(p.ma, p.kernels.mr) * p.kernels.mr * p.kc
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
		return p.m * p.nb
	case p.tile:
		return p.mb * p.nb
	}
	return 0
}
