package oracle

import (
	"fmt"
	"math"

	"gonum.org/v1/gonum/mat"
)

// LoRAMuonOGD holds the constants of a LoRA-Muon step that leaves Uᵀ W V as it is, U [m, p] and V [n, q] of orthonormal columns.
type LoRAMuonOGD struct {
	LoRAMuon
	U, V *mat.Dense
}

// Constrained is a constrained step. Value is the descent ⟨G, ΔW⟩ in units of -eta/2 before the step is corrected for its
// second-order term and the decay, and Bound the dual bound of it, which no step can pass: where the two agree the step is
// the best one.
type Constrained struct {
	Pair
	DeltaA, DeltaB *mat.Dense
	Value, Bound   float64
}

// Step returns the step from gradients gA [m, r] and gB [n, r], without a guard. The multiplier minimises the sum of two nuclear norms,
// by a quasi-Newton method on values and gradients from SVDs; the gradient must be of full rank, so that the minimum is at
// a point where they exist. The correction is a Newton iteration on the whole change of Uᵀ W V, by the pseudo-inverse of its matrix of
// derivatives.
func (o LoRAMuonOGD) Step(p Pair, gA, gB mat.Matrix) (out Constrained, err error) {
	scale, err := stepScale(o.LearningRate, o.WeightDecay, o.S, o.Scale)
	if err != nil {
		return out, err
	}
	out.MomentA, out.MomentB = blend(o.Momentum, p.MomentA, gA), blend(o.Momentum, p.MomentB, gB)
	basisA, inverseA, err := orthonormalCoordinates(p.A)
	if err != nil {
		return out, err
	}
	basisB, inverseB, err := orthonormalCoordinates(p.B)
	if err != nil {
		return out, err
	}
	d := dual{u: o.U, v: o.V, seenA: product2(o.U.T(), basisA), seenB: product2(o.V.T(), basisB),
		x: product2(out.MomentA, inverseB), y: product2(out.MomentB, inverseA)}
	lambda, err := d.minimise()
	if err != nil {
		return out, err
	}
	if err := d.at(lambda); err != nil {
		return out, err
	}
	out.Bound = d.value
	out.Value = inner(d.x, d.stepX) + inner(d.y, d.stepY)

	half := -o.LearningRate * scale / (2 * o.S)
	k := math.Sqrt(1 - o.WeightDecay*o.LearningRate)
	m, r := d.stepX.Dims()
	n, _ := d.stepY.Dims()
	block := func(a, b *mat.Dense) *mat.Dense { return product2(product2(o.U.T(), a), product2(o.V.T(), b).T()) }
	for step := 0; ; step++ {
		out.DeltaA, out.DeltaB = product2(d.stepX, inverseB.T()), product2(d.stepY, inverseA.T())
		out.DeltaA.Scale(half, out.DeltaA)
		out.DeltaB.Scale(half, out.DeltaB)
		out.A, out.B = combine(k, p.A, 1/k, out.DeltaA), combine(k, p.B, 1/k, out.DeltaB)
		if step == 10 { // Newton's method has converged long before
			return out, nil
		}
		d.seenA, d.seenB = product2(product2(o.U.T(), out.A), inverseA), product2(product2(o.V.T(), out.B), inverseB)
		inverse, err := PseudoInverse(d.jacobian())
		if err != nil {
			return out, err
		}
		change := combine(k/half, block(out.A, out.B), -k/half, block(p.A, p.B))
		move := product2(inverse, mat.NewVecDense(len(change.RawMatrix().Data), change.RawMatrix().Data))
		for i := range m {
			for j := range r {
				d.stepX.Set(i, j, d.stepX.At(i, j)-move.At(i*r+j, 0))
			}
		}
		for i := range n {
			for j := range r {
				d.stepY.Set(i, j, d.stepY.At(i, j)-move.At((m+i)*r+j, 0))
			}
		}
	}
}

// orthonormalCoordinates returns an orthonormal basis q [m, r] of the columns of x and t [r, r] with q = x t, for x of full rank.
func orthonormalCoordinates(x *mat.Dense) (q, t *mat.Dense, err error) {
	u, sigma, v, err := SVD(x)
	if err != nil {
		return nil, nil, err
	}
	if !(sigma[len(sigma)-1] > rankTol*sigma[0]) {
		return nil, nil, fmt.Errorf("oracle: a factor without full rank")
	}
	t = mat.DenseCopyOf(v)
	scaleColumns(t, sigma, rankTol, func(s float64) float64 { return 1 / s })
	return u, t, nil
}

// dual is the function of the multiplier, ‖x + U Λ (VᵀQ_B)‖_* + ‖y + V Λᵀ (UᵀQ_A)‖_*.
type dual struct {
	u, v, seenA, seenB, x, y *mat.Dense

	value        float64
	stepX, stepY *mat.Dense // polar factors
	slope        *mat.Dense
}

// at evaluates the function and its gradient.
func (d *dual) at(lambda *mat.Dense) (err error) {
	shift := func(x, u, lambda, seen mat.Matrix) *mat.Dense {
		return combine(1, x, 1, product2(product2(u, lambda), seen))
	}
	x, y := shift(d.x, d.u, lambda, d.seenB), shift(d.y, d.v, lambda.T(), d.seenA)
	if d.stepX, err = Msign(x); err != nil {
		return err
	}
	if d.stepY, err = Msign(y); err != nil {
		return err
	}
	d.value = inner(x, d.stepX) + inner(y, d.stepY)
	d.slope = combine(1, product2(product2(d.u.T(), d.stepX), d.seenB.T()), 1, product2(d.seenA, product2(d.v.T(), d.stepY).T()))
	return nil
}

// minimise is BFGS with backtracking, from zero, until no step makes the value smaller.
func (d *dual) minimise() (*mat.Dense, error) {
	p, _ := d.seenA.Dims()
	q, _ := d.seenB.Dims()
	lambda := mat.NewDense(p, q, nil)
	if err := d.at(lambda); err != nil {
		return nil, err
	}
	size := mat.Norm(d.x, 2) + mat.Norm(d.y, 2)
	inverse := mat.NewDense(p*q, p*q, nil) // of the Hessian
	for i := range p * q {
		inverse.Set(i, i, size)
	}
	column := func(x *mat.Dense) *mat.Dense { return mat.NewDense(p*q, 1, mat.DenseCopyOf(x).RawMatrix().Data) }
	for range 1000 {
		value, slope := d.value, column(d.slope)
		direction := product2(inverse, slope)
		step, better := 1.0, false
		for range 60 {
			next := combine(1, lambda, -step, mat.NewDense(p, q, mat.DenseCopyOf(direction).RawMatrix().Data))
			if err := d.at(next); err != nil {
				return nil, err
			}
			if better = d.value < value-1e-4*step*inner(slope, direction); better {
				lambda = next
				break
			}
			step /= 2
		}
		if !better {
			return lambda, nil
		}
		moved, turned := combine(-step, direction, 0, direction), combine(1, column(d.slope), -1, slope)
		if curve := inner(moved, turned); curve > 0 {
			updateInverse(inverse, moved, turned, curve)
		}
	}
	return lambda, nil
}

// updateInverse is the BFGS update of the inverse Hessian h: (I - s yᵀ/c) h (I - y sᵀ/c) + s sᵀ/c with c = sᵀy.
func updateInverse(h, s, y *mat.Dense, c float64) {
	hy := product2(h, y)
	factor := (1 + inner(y, hy)/c) / c
	for i := range s.RawMatrix().Rows {
		for j := range s.RawMatrix().Rows {
			h.Set(i, j, h.At(i, j)+factor*s.At(i, 0)*s.At(j, 0)-(hy.At(i, 0)*s.At(j, 0)+s.At(i, 0)*hy.At(j, 0))/c)
		}
	}
}

// jacobian returns the matrix of (D_X, D_Y) -> Uᵀ D_X Q_Bᵀ V + Uᵀ Q_A D_Yᵀ V.
func (d *dual) jacobian() *mat.Dense {
	m, p := d.u.Dims()
	n, q := d.v.Dims()
	_, r := d.seenA.Dims()
	out := mat.NewDense(p*q, (m+n)*r, nil)
	for i := range p {
		for j := range q {
			for k := range r {
				for l := range m {
					out.Set(i*q+j, l*r+k, d.u.At(l, i)*d.seenB.At(j, k))
				}
				for l := range n {
					out.Set(i*q+j, (m+l)*r+k, d.v.At(l, j)*d.seenA.At(i, k))
				}
			}
		}
	}
	return out
}

// inner returns the sum of the products of the elements.
func inner(x, y *mat.Dense) float64 {
	var product mat.Dense
	product.MulElem(x, y)
	return mat.Sum(&product)
}
