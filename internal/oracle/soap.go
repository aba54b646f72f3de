package oracle

import (
	"gonum.org/v1/gonum/mat"
)

// SOAP is Adam in the eigenvectors of the moving averages L of g gᵀ and R of gᵀ g.
type SOAP struct {
	Adam
	Left, Right bool // the sides with a basis of their own; the other one's is I
}

// SOAPState is what SOAP keeps of an m x n matrix: L [m, m], R [n, n], the momentum M and the second moment V in the bases of the
// eigenvectors, in ascending order of the eigenvalues; nil is zero.
type SOAPState struct{ L, R, M, V *mat.Dense }

// Direction returns Q_L N Q_Rᵀ after taking in grad as the count-th gradient, and the new state: N is Adam's direction of the
// momentum in the bases, with the second moment of the gradients as they were in the bases of their own steps. The signs of
// eigenvectors do not matter; where eigenvalues cross, the second moments would have to be reordered, which this does not do.
func (o SOAP) Direction(old SOAPState, grad mat.Matrix, count int) (*mat.Dense, SOAPState, error) {
	if err := Finite(grad); err != nil {
		return nil, SOAPState{}, err
	}
	m, n := grad.Dims()
	left, right := identity(m), identity(n)
	next := SOAPState{M: blend(o.Beta1, old.M, grad)}
	var err error
	if o.Left {
		next.L = blend(o.Beta2, old.L, product2(grad, grad.T()))
		if _, left, err = Eigen(next.L); err != nil {
			return nil, SOAPState{}, err
		}
	}
	if o.Right {
		next.R = blend(o.Beta2, old.R, product2(grad.T(), grad))
		if _, right, err = Eigen(next.R); err != nil {
			return nil, SOAPState{}, err
		}
	}
	turned := product2(product2(left.T(), grad), right)
	turned.MulElem(turned, turned)
	next.V = blend(o.Beta2, old.V, turned)
	inside := o.quotient(product2(product2(left.T(), next.M), right), next.V, count)
	return product2(product2(left, inside), right.T()), next, nil
}

// identity returns the n x n unit matrix.
func identity(n int) *mat.Dense {
	x := mat.NewDense(n, n, nil)
	for i := range n {
		x.Set(i, i, 1)
	}
	return x
}
