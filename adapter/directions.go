package adapter

import (
	"fmt"

	"github.com/polargo/polar/adapter/peft"
	"github.com/polargo/polar/param"
	"gonum.org/v1/gonum/mat"
)

// Directions are the singular directions of what an adapter adds to the weight of one layer of a model.
type Directions struct {
	// Layer is the model's layer.
	Layer string
	// FanOut, FanIn and Rank are the layer's widths and the number of directions: the rank of the product.
	FanOut, FanIn, Rank int
	// U [fan-out, rank] and V [fan-in, rank], row-major, hold its left and right singular vectors, the largest first.
	U, V []float32
}

// Singular values below noiseOfProduct of the largest, or below noiseOfFactors of the factors' norms, are float32 rounding: an
// adapter that began at a product which was not zero is the difference of two products.
const noiseOfProduct, noiseOfFactors = 1e-5, 1e-6

// DirectionsOf returns the directions of an adapter in the layers of a model, in the model's order and without the layers whose
// product is zero, for optimizer.Protect. An adapter that does not fit the model is an error, as of FromPEFT.
// Cost: two QR decompositions and an SVD of the adapter's rank a layer, on all cores.
func DirectionsOf(layers []param.Layer, a *peft.Adapter) ([]Directions, error) {
	byLayer, err := fit(layers, a)
	if err != nil {
		return nil, err
	}
	all := make([]Directions, len(layers))
	err = eachLayer(len(layers), func(i int) error {
		p, found := byLayer[i]
		if !found {
			return nil
		}
		var err error
		if all[i], err = directionsOf(p); err != nil {
			return fmt.Errorf("layer %s: %w", layers[i].Name, err)
		}
		all[i].Layer = layers[i].Name
		return nil
	})
	if err != nil {
		return nil, err
	}
	var out []Directions
	for _, d := range all {
		if d.Rank > 0 {
			out = append(out, d)
		}
	}
	return out, nil
}

// directionsOf decomposes A Bᵀ by way of the small product of the triangular factors of A and B.
func directionsOf(p peft.Pair) (Directions, error) {
	qA, rA := thinQR(widen(p.A, p.FanOut, p.Rank))
	qB, rB := thinQR(widen(p.B, p.FanIn, p.Rank))
	var svd mat.SVD
	if !svd.Factorize(dense(product(rA, false, rB, true)), mat.SVDThin) {
		return Directions{}, fmt.Errorf("the singular value decomposition did not converge")
	}
	sigma := svd.Values(nil)
	floor := max(noiseOfProduct*sigma[0], noiseOfFactors*mat.Norm(dense(rA), 2)*mat.Norm(dense(rB), 2))
	rank := 0
	for rank < len(sigma) && sigma[rank] > floor {
		rank++
	}
	d := Directions{FanOut: p.FanOut, FanIn: p.FanIn, Rank: rank}
	if rank == 0 {
		return d, nil
	}
	var left, right mat.Dense
	svd.UTo(&left)
	svd.VTo(&right)
	d.U = narrow(product(qA, false, leading(&left, rank), false).Data)
	d.V = narrow(product(qB, false, leading(&right, rank), false).Data)
	return d, nil
}
