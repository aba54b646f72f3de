package gemm

import "github.com/polargo/polar/backend/cpu/team"

// runner is one Run of a plan.
type runner[T float32 | float64] struct {
	*Plan[T]
	out, left, right []T // C, A and B of what is computed
	scratch          []T
	epilogue         Epilogue
	workers          []worker[T]
}

// worker is what one worker needs, on a cache line of its own.
type worker[T float32 | float64] struct {
	id    int
	panel panel[T]
	strip strip[T]
	a, b  []T // its scratch
	c     []T
	_     [64]byte
}

// pass is the part of B that is packed for all workers at once, and with which they then compute: columns n0 to n1 of terms k0
// to k1.
type pass struct{ n0, n1, k0, k1 int }

func (r *runner[T]) run(t *team.Team) {
	rest := r.scratch[r.sharedLen():]
	take := func(n int) []T {
		s := rest[:n:n]
		rest = rest[n:]
		return s
	}
	for i := range r.workers {
		w := &r.workers[i]
		w.id, w.a, w.b, w.c = i, take(r.aLen()), take(r.bLen()), take(r.cLen())
	}
	if r.k == 0 {
		r.zeros(t)
		return
	}
	mBlocks, nBlocks := ceil(r.m, r.mb), ceil(r.n, r.nb)
	if r.bMode == bShared {
		for product := range r.batch {
			for n0 := 0; n0 < r.n; n0 += r.nc {
				for k0 := 0; k0 < r.k; k0 += r.ks {
					p := &pass{n0: n0, n1: min(n0+r.nc, r.n), k0: k0, k1: min(k0+r.ks, r.k)}
					r.packShared(t, product, p)
					t.Run(mBlocks*ceil(p.n1-n0, r.nb), func(worker, task int) {
						mi, ni := task%mBlocks, task/mBlocks
						j := n0 + ni*r.nb
						r.block(&r.workers[worker], product, mi*r.mb, j, min(j+r.nb, p.n1), p)
					})
				}
			}
		}
		return
	}
	whole := &pass{n1: r.n, k1: r.k}
	blocks := mBlocks * nBlocks
	t.Run(ceil(r.batch, r.group)*blocks, func(worker, task int) {
		first := task / blocks * r.group
		task %= blocks
		for product := first; product < min(first+r.group, r.batch); product++ {
			mi, ni := task%mBlocks, task/mBlocks
			j := ni * r.nb
			if r.dots {
				r.dotBlock(&r.workers[worker], product, j, min(j+r.nb, r.n))
			} else {
				r.block(&r.workers[worker], product, mi*r.mb, j, min(j+r.nb, r.n), whole)
			}
		}
	})
}

// zeros is the product over no terms.
func (r *runner[T]) zeros(t *team.Team) {
	t.Run(r.batch, func(worker, product int) {
		if !r.spec.Accumulate {
			for i := range r.m {
				for j := range r.n {
					r.out[r.cOff[product]+i*r.c.Row+j*r.c.Col] = 0
				}
			}
		}
		if r.epilogue != nil {
			r.epilogue(worker, product, 0, 0, r.m, r.n)
		}
	})
}

// packShared packs a pass of a product's B into the shared scratch: for every kc terms the strips, one after another.
func (r *runner[T]) packShared(t *team.Team, product int, p *pass) {
	nr := r.kernels.nr
	strips := ceil(p.n1-p.n0, nr)
	pieces := ceil(p.k1-p.k0, r.kc)
	each := clamp(blockB/4/(nr*r.kc), 1, strips)
	groups := ceil(strips, each)
	t.Run(pieces*groups, func(worker, task int) {
		k0 := p.k0 + task/groups*r.kc
		k1 := min(k0+r.kc, p.k1)
		s0 := task % groups * each
		s1 := min(s0+each, strips)
		at := (k0-p.k0)*strips*nr + s0*(k1-k0)*nr
		r.packB(&r.workers[worker], r.scratch[at:], product, k0, k1, p.n0+s0*nr, min(p.n0+s1*nr, p.n1))
	})
}

// packB packs terms k0 to k1 of columns n0 to n1 into strips, one after another.
func (r *runner[T]) packB(w *worker[T], dst []T, product, k0, k1, n0, n1 int) {
	nr, terms := r.kernels.nr, r.kernels.terms()
	w.strip = strip[T]{dst: dst, src: r.right[r.bOff[product]+k0*terms*r.b.Row+n0*r.b.Col:], rows: k1 - k0, cols: n1 - n0, dstRow: nr,
		rowStride: r.b.Row, colStride: r.b.Col, terms: min(k1*terms, r.spec.K) - k0*terms, width: nr, dstStrip: (k1 - k0) * nr}
	r.pack(&w.strip)
}

// block computes rows m0 on and columns n0 to n1 of a product, over the terms of a pass.
func (r *runner[T]) block(w *worker[T], product, m0, n0, n1 int, p *pass) {
	m1 := min(m0+r.mb, r.m)
	nr, x := r.kernels.nr, &w.panel
	*x = panel[T]{aRow: r.a.Row, aK: r.a.Col, cRow: r.c.Row, n: n1 - n0}
	out := r.out[r.cOff[product]+m0*r.c.Row+n0*r.c.Col:]
	if r.tile {
		x.cRow, out = x.n, w.c
	}
	for k0 := p.k0; k0 < p.k1; k0 += r.kc {
		k1 := min(k0+r.kc, p.k1)
		x.k = k1 - k0
		if k0 > p.k0 || k0 > 0 && !r.tile || r.spec.Accumulate && !r.tile {
			x.accumulate = 1
		}
		switch r.bMode {
		case bDirect:
			x.b, x.bK, x.bStrip, x.wide = r.right[r.bOff[product]+k0*r.b.Row+n0:], r.b.Row, nr, 1
		case bLocal:
			r.packB(w, w.b, product, k0, k1, n0, n1)
			x.b, x.bK, x.bStrip = w.b, nr, nr*x.k
		case bShared:
			x.b, x.bK, x.bStrip = r.scratch[(k0-p.k0)*ceil(p.n1-p.n0, nr)*nr+(n0-p.n0)*x.k:], nr, nr*x.k
		}
		for i := m0; i < m1; i += r.ma {
			r.panels(w, product, i, min(i+r.ma, m1), k0, k1, out[(i-m0)*x.cRow:])
		}
	}
	if r.tile {
		r.scatter(w.c, product, m0, m1, n0, n1, r.spec.Accumulate || p.k0 > 0)
	}
	if r.epilogue != nil && p.k1 == r.k {
		r.epilogue(w.id, product, m0, n0, m1-m0, n1-n0)
	}
}

// panels multiplies rows m0 to m1, by panels, with the B of the worker's panel.
func (r *runner[T]) panels(w *worker[T], product, m0, m1, k0, k1 int, out []T) {
	x := &w.panel
	// Panels of about as many rows each.
	step := ceil(m1-m0, ceil(m1-m0, r.kernels.mr))
	packed := r.aCopy && !r.aRows
	if packed {
		r.packA(w, product, step, m0, m1, k0, k1)
		x.aRow, x.aK = 1, step
	}
	left := r.left[r.aOff[product]+k0*r.kernels.terms()*r.a.Col:]
	for i := m0; i < m1; i += step {
		x.m = min(step, m1-i)
		switch {
		case packed:
			x.a = w.a[(i-m0)*x.k:]
		case r.aRows:
			r.copyRows(w, left[i*r.a.Row:], k0)
		default:
			x.a = left[i*r.a.Row:]
		}
		x.c = out[(i-m0)*x.cRow:]
		r.kernels.panel(x)
	}
}

// copyRows copies a panel of A, whose rows are contiguous, into the worker's scratch and points the panel there.
func (r *runner[T]) copyRows(w *worker[T], src []T, k0 int) {
	stride, x := r.aStride(), &w.panel
	if r.kernels.pairs {
		w.strip = strip[T]{dst: w.a, src: src, rows: x.m, cols: min(2*(k0+x.k), r.spec.K) - 2*k0, dstRow: stride, rowStride: r.a.Row}
		r.kernels.round(&w.strip)
	} else {
		for i := range x.m {
			copy(w.a[i*stride:i*stride+x.k], src[i*r.a.Row:])
		}
	}
	x.a, x.aRow, x.aK = w.a, stride, 1
}

// packA packs rows m0 to m1 of terms k0 to k1 into the worker's scratch: panels of mr rows, in each the rows of a term together.
func (r *runner[T]) packA(w *worker[T], product, mr, m0, m1, k0, k1 int) {
	terms := r.kernels.terms()
	w.strip = strip[T]{dst: w.a, src: r.left[r.aOff[product]+m0*r.a.Row+k0*terms*r.a.Col:], rows: k1 - k0, cols: m1 - m0, dstRow: mr,
		rowStride: r.a.Col, colStride: r.a.Row, terms: min(k1*terms, r.spec.K) - k0*terms, width: mr, dstStrip: (k1 - k0) * mr}
	r.pack(&w.strip)
}

// scatter moves or adds a block of C from scratch to its place.
func (r *runner[T]) scatter(tile []T, product, m0, m1, n0, n1 int, add bool) {
	cols := n1 - n0
	for i := m0; i < m1; i++ {
		row := tile[(i-m0)*cols : (i-m0+1)*cols]
		at := r.cOff[product] + i*r.c.Row + n0*r.c.Col
		if add {
			for j, x := range row {
				r.out[at+j*r.c.Col] += x
			}
		} else {
			for j, x := range row {
				r.out[at+j*r.c.Col] = x
			}
		}
	}
}
