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
				n1 := min(n0+r.nc, r.n)
				r.packShared(t, product, n0, n1)
				t.Run(mBlocks*ceil(n1-n0, r.nb), func(worker, task int) {
					mi, ni := task%mBlocks, task/mBlocks
					j := n0 + ni*r.nb
					r.block(&r.workers[worker], product, mi*r.mb, j, min(j+r.nb, n1), n0, n1)
				})
			}
		}
		return
	}
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
				r.block(&r.workers[worker], product, mi*r.mb, j, min(j+r.nb, r.n), 0, 0)
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

// packShared packs columns n0 to n1 of a product's B into the shared scratch: for every pass over kc terms the strips, one after
// another.
func (r *runner[T]) packShared(t *team.Team, product, n0, n1 int) {
	nr := r.kernels.nr
	strips := ceil(n1-n0, nr)
	passes := ceil(r.k, r.kc)
	each := clamp(blockB/4/(nr*r.kc), 1, strips)
	groups := ceil(strips, each)
	t.Run(passes*groups, func(worker, task int) {
		k0 := task / groups * r.kc
		k1 := min(k0+r.kc, r.k)
		s0 := task % groups * each
		s1 := min(s0+each, strips)
		at := k0*strips*nr + s0*(k1-k0)*nr
		r.packB(&r.workers[worker], r.scratch[at:], product, k0, k1, n0+s0*nr, min(n0+s1*nr, n1))
	})
}

// packB packs terms k0 to k1 of columns n0 to n1 into strips.
func (r *runner[T]) packB(w *worker[T], dst []T, product, k0, k1, n0, n1 int) {
	nr, terms := r.kernels.nr, r.kernels.terms()
	s := &w.strip
	*s = strip[T]{dstRow: nr, rowStride: r.b.Row, colStride: r.b.Col}
	// Where rows are contiguous, some rows of all strips at a time: memory is read in long pieces.
	step := k1 - k0
	if r.b.Col == 1 {
		step = chunk
	}
	for k := k0; k < k1; k += step {
		s.rows = min(step, k1-k)
		s.terms = min((k+s.rows)*terms, r.spec.K) - k*terms
		src := r.right[r.bOff[product]+k*terms*r.b.Row:]
		to := dst[(k-k0)*nr:]
		for n := n0; n < n1; n += nr {
			s.cols = min(nr, n1-n)
			s.dst, s.src = to, src[n*r.b.Col:]
			r.packStrip(s)
			to = to[min((k1-k0)*nr, len(to)):]
		}
	}
}

// block computes rows m0 on and columns n0 to n1 of a product, over all terms. The packed B that is shared begins at column s0
// and ends at s1.
func (r *runner[T]) block(w *worker[T], product, m0, n0, n1, s0, s1 int) {
	m1 := min(m0+r.mb, r.m)
	nr, terms := r.kernels.nr, r.kernels.terms()
	x := &w.panel
	*x = panel[T]{aRow: r.a.Row, aK: r.a.Col, cRow: r.c.Row, n: n1 - n0}
	out := r.out[r.cOff[product]+m0*r.c.Row+n0*r.c.Col:]
	if r.tile {
		x.cRow, out = x.n, w.c
	}
	for k0 := 0; k0 < r.k; k0 += r.kc {
		k1 := min(k0+r.kc, r.k)
		x.k = k1 - k0
		if k0 > 0 || r.spec.Accumulate && !r.tile {
			x.accumulate = 1
		}
		switch r.bMode {
		case bDirect:
			x.b, x.bK, x.bStrip, x.wide = r.right[r.bOff[product]+k0*r.b.Row+n0:], r.b.Row, nr, 1
		case bLocal:
			r.packB(w, w.b, product, k0, k1, n0, n1)
			x.b, x.bK, x.bStrip = w.b, nr, nr*x.k
		case bShared:
			x.b, x.bK, x.bStrip = r.scratch[k0*ceil(s1-s0, nr)*nr+(n0-s0)*x.k:], nr, nr*x.k
		}
		// Panels of about as many rows each.
		panels := ceil(m1-m0, r.kernels.mr)
		if r.aCopy && !r.aRows {
			r.packA(w, product, m0, m1, k0, k1)
		}
		for i := range panels {
			from, to := m0+i*(m1-m0)/panels, m0+(i+1)*(m1-m0)/panels
			x.m = to - from
			x.a = r.left[r.aOff[product]+from*r.a.Row+k0*terms*r.a.Col:]
			switch {
			case r.aRows:
				r.copyRows(w, x)
			case r.aCopy:
				x.a, x.aRow, x.aK = w.a[i*r.kernels.mr*x.k:], 1, r.kernels.mr
			}
			x.c = out[(from-m0)*x.cRow:]
			r.kernels.panel(x)
		}
	}
	if r.tile {
		r.scatter(w.c, product, m0, m1, n0, n1)
	}
	if r.epilogue != nil {
		r.epilogue(w.id, product, m0, n0, m1-m0, n1-n0)
	}
}

// copyRows copies a panel of A, whose rows are contiguous, into the worker's scratch and points the panel there.
func (r *runner[T]) copyRows(w *worker[T], x *panel[T]) {
	stride := r.aStride()
	for i := range x.m {
		copy(w.a[i*stride:i*stride+x.k], x.a[i*r.a.Row:])
	}
	x.a, x.aRow, x.aK = w.a, stride, 1
}

// packA packs rows m0 to m1 of terms k0 to k1 into the worker's scratch, panel after panel, each term's rows together.
func (r *runner[T]) packA(w *worker[T], product, m0, m1, k0, k1 int) {
	mr, terms := r.kernels.mr, r.kernels.terms()
	panels := ceil(m1-m0, mr)
	s := &w.strip
	*s = strip[T]{dstRow: mr, rowStride: r.a.Col, colStride: r.a.Row}
	step := k1 - k0
	if r.a.Row == 1 {
		step = chunk
	}
	for k := k0; k < k1; k += step {
		s.rows = min(step, k1-k)
		s.terms = min((k+s.rows)*terms, r.spec.K) - k*terms
		src := r.left[r.aOff[product]+k*terms*r.a.Col:]
		for i := range panels {
			from, to := m0+i*(m1-m0)/panels, m0+(i+1)*(m1-m0)/panels
			s.cols = to - from
			s.dst, s.src = w.a[(i*(k1-k0)+k-k0)*mr:], src[from*r.a.Row:]
			r.packStrip(s)
		}
	}
}

// scatter moves a block of C from scratch to its place.
func (r *runner[T]) scatter(tile []T, product, m0, m1, n0, n1 int) {
	cols := n1 - n0
	for i := m0; i < m1; i++ {
		row := tile[(i-m0)*cols : (i-m0+1)*cols]
		at := r.cOff[product] + i*r.c.Row + n0*r.c.Col
		if r.spec.Accumulate {
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
