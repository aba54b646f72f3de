package oracle

import (
	"fmt"

	"gonum.org/v1/gonum/mat"
)

// LoRARITECore holds the constants of a step of LoRA-RITE's simplified core, which are LoRA-Muon's.
type LoRARITECore LoRAMuon

// Step returns the pair after one exact step without a guard, from gradients gA [m, r] and gB [n, r], and the two increments ΔA
// and ΔB before decay. The triangular factors come from Householder QR decompositions of A and B, which need full rank.
func (o LoRARITECore) Step(p Pair, gA, gB mat.Matrix) (next Pair, dA, dB *mat.Dense, err error) {
	return LoRAMuon(o).step(p, gA, gB, triangularIncrement)
}

// triangularIncrement returns factor·msign(moment·R⁻¹)·R⁻ᵀ with other = U R.
func triangularIncrement(moment, other *mat.Dense, factor float64) (*mat.Dense, error) {
	if err := Finite(other); err != nil {
		return nil, err
	}
	var qr mat.QR
	qr.Factorize(other)
	var full mat.Dense
	qr.RTo(&full)
	_, r := other.Dims()
	upper := mat.NewTriDense(r, mat.Upper, nil)
	for i := range r {
		for j := i; j < r; j++ {
			upper.SetTri(i, j, full.At(i, j))
		}
	}
	var inverse mat.TriDense
	if err := inverse.InverseTri(upper); err != nil {
		if condition, illConditioned := err.(mat.Condition); !illConditioned || float64(condition) > 1/rankTol {
			return nil, fmt.Errorf("oracle: a factor without full rank has no triangular inverse: %w", err)
		}
	}
	var inner mat.Dense
	inner.Mul(moment, &inverse)
	polar, err := Msign(&inner)
	if err != nil {
		return nil, err
	}
	out := new(mat.Dense)
	out.Mul(polar, inverse.T())
	out.Scale(factor, out)
	return out, nil
}
