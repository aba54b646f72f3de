package model

import (
	"fmt"
	"hash/fnv"
	"math"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/gomlx/gomlx/core/tensors"
	mlmodel "github.com/gomlx/gomlx/ml/model"
	"github.com/polargo/polar/param"
	"gonum.org/v1/gonum/blas/blas64"
)

// embeddingStd is the standard deviation of embeddings and heads at the start (reproduction setting M, and GPT-2's).
const embeddingStd = 0.02

// Init creates the decoder's variables in store with random values, the same for the same seed: linear weights
// sqrt(m/n)·Q with Q random orthonormal (RMS→RMS norm 1), embeddings and heads N(0, 0.02²), norms 1, biases 0. A variable's
// values depend on the seed and its name alone. It returns an error when store already has one of them.
func (d *Decoder) Init(store *mlmodel.Store, seed int64) error {
	for _, p := range d.params {
		if store.GetVariable(p.Path()) != nil {
			return fmt.Errorf("initialise model: the store already has a variable %s", p.Path())
		}
	}
	for _, p := range d.params {
		hash := fnv.New64a()
		_, _ = hash.Write([]byte(p.Name))
		rng := rand.New(rand.NewPCG(uint64(seed), hash.Sum64()))
		store.VariableWithValue(p.Path(), tensors.FromFlatDataAndDimensions(initial(p, rng), p.Shape...))
	}
	return d.SetTrainable(store, true)
}

// initial returns the start of one tensor.
func initial(p Tensor, rng *rand.Rand) []float32 {
	switch p.Role {
	case param.Hidden:
		return orthonormal(p.Shape[0], p.Shape[1], math.Sqrt(float64(p.Shape[0])/float64(p.Shape[1])), rng)
	case param.Embedding, param.Head:
		out := make([]float32, p.Shape[0]*p.Shape[1])
		for i := range out {
			out[i] = float32(embeddingStd * rng.NormFloat64())
		}
		return out
	}
	out := make([]float32, p.Shape[0])
	if strings.HasSuffix(p.Name, ".weight") {
		for i := range out {
			out[i] = 1
		}
	}
	return out
}

// orthonormal returns scale times a uniformly random m x n matrix with orthonormal columns, or rows when it is wide. Gram
// and Schmidt's vectors of a Gaussian matrix are distributed as its polar factor (Mezzadri 2007, Notices AMS 54(5)); the
// second pass removes the rounding of the first. Cost: 8·max(m, n)·min(m, n)² operations.
func orthonormal(m, n int, scale float64, rng *rand.Rand) []float32 {
	count, length := min(m, n), max(m, n)
	vectors := make([]blas64.Vector, count)
	for i := range vectors {
		v := blas64.Vector{N: length, Inc: 1, Data: make([]float64, length)}
		for j := range v.Data {
			v.Data[j] = rng.NormFloat64()
		}
		for range 2 {
			for _, u := range vectors[:i] {
				blas64.Axpy(-blas64.Dot(u, v), u, v)
			}
			blas64.Scal(1/blas64.Nrm2(v), v)
		}
		vectors[i] = v
	}
	out := make([]float32, m*n)
	for i, v := range vectors {
		for j, x := range v.Data {
			if m >= n {
				out[j*n+i] = float32(scale * x)
			} else {
				out[i*n+j] = float32(scale * x)
			}
		}
	}
	return out
}

// SetTrainable makes all of the decoder's variables in store trainable or frozen. Those made trainable are described to
// the optimizers (param.Tag). It returns an error for a variable that is missing or has another shape.
func (d *Decoder) SetTrainable(store *mlmodel.Store, on bool) error {
	fanOut, fanIn := map[string]int{}, map[string]int{}
	for _, layer := range d.layers {
		fanOut[layer.Weight], fanIn[layer.Weight] = layer.FanOut, layer.FanIn
	}
	for _, p := range d.params {
		v := store.GetVariable(p.Path())
		if v == nil {
			return fmt.Errorf("model: the store has no variable %s", p.Path())
		}
		if dims := v.Shape().Dimensions; !slices.Equal(dims, p.Shape) {
			return fmt.Errorf("model: variable %s has shape %v, want %v", p.Path(), dims, p.Shape)
		}
		v.SetTrainable(on)
		if !on {
			continue
		}
		spec := param.Spec{Role: p.Role, FanOut: fanOut[p.Path()], FanIn: fanIn[p.Path()]}
		if err := param.Tag(store, v, spec); err != nil {
			return err
		}
	}
	return nil
}
