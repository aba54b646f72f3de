package gemm

// dots is one call of the kernel for few rows whose terms are contiguous, in A and in B's columns:
// c[i*cRow+j] = sum over k of a[i*aRow+k] b[j*bCol+k], i < m and j < n. The generator knows its layout.
type dots[T float32 | float64] struct {
	a, b, c          []T
	m, n, k          int
	aRow, bCol, cRow int
}

// dotBlock computes columns n0 to n1 of a product of few rows.
func (r *runner[T]) dotBlock(w *worker[T], product, n0, n1 int) {
	r.kernels.dots(&dots[T]{a: r.left[r.aOff[product]:], b: r.right[r.bOff[product]+n0*r.b.Col:], c: w.c, m: r.m, n: n1 - n0, k: r.spec.K,
		aRow: r.a.Row, bCol: r.b.Col, cRow: n1 - n0})
	r.scatter(w.c, product, 0, r.m, n0, n1, r.spec.Accumulate)
	if r.epilogue != nil {
		r.epilogue(w.id, product, 0, n0, r.m, n1-n0)
	}
}

// dotsGeneric sums four terms in parallel.
func dotsGeneric[T float32 | float64](x *dots[T]) {
	for i := range x.m {
		a := x.a[i*x.aRow:][:x.k]
		for j := range x.n {
			b := x.b[j*x.bCol:][:x.k]
			var s [4]T
			k := 0
			for ; k+4 <= len(a); k += 4 {
				u, v := a[k:k+4], b[k:k+4]
				s[0] += u[0] * v[0]
				s[1] += u[1] * v[1]
				s[2] += u[2] * v[2]
				s[3] += u[3] * v[3]
			}
			sum := (s[0] + s[2]) + (s[1] + s[3])
			for ; k < len(a); k++ {
				sum += a[k] * b[k]
			}
			x.c[i*x.cRow+j] = sum
		}
	}
}
