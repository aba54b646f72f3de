package adapter

import (
	"fmt"
	"hash/fnv"
	"math"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/polargo/polar/param"
	"gonum.org/v1/gonum/blas/blas64"
)

// factors are a pair's values, A [fan-out, r] and B [fan-in, r].
type factors struct{ a, b []float32 }

// random returns the generator of one layer: it depends on the seed and the layer's name, so that a layer's start does
// not change with the choice of the others.
func random(seed int64, layer string) *rand.Rand {
	hash := fnv.New64a()
	_, _ = hash.Write([]byte(layer))
	return rand.New(rand.NewPCG(uint64(seed), hash.Sum64()))
}

// start returns the initial factors of a layer. weight is W_pre and gradient ∇_W f, [fan-out, fan-in]; each is used by
// one initialisation only. For all but LoRA the factors carry 1/sqrt(s), so that s·A0 B0ᵀ does not depend on alpha.
func start(layer param.Layer, cfg Config, weight, gradient []float32) (factors, error) {
	m, n, r, s := layer.FanOut, layer.FanIn, cfg.Rank, cfg.Scale()
	rng := random(cfg.Seed, layer.Name)
	switch cfg.Init {
	case InitLoRA:
		return factors{a: uniform(m, r, rng), b: make([]float32, n*r)}, nil
	case InitBalanced:
		c := math.Sqrt(balancedNorm(layer, cfg.initScale()) / s)
		return factors{a: scaled(orthonormal(m, r, rng), c), b: scaled(orthonormal(n, r, rng), c)}, nil
	case InitPiSSA:
		u, sigma, v, err := topTriplets(weight, m, n, r, rng, "weight")
		if err != nil {
			return factors{}, err
		}
		for k, value := range sigma {
			scaleColumn(u, k, math.Sqrt(value/s))
			scaleColumn(v, k, math.Sqrt(value/s))
		}
		return factors{a: narrow(u.Data), b: narrow(v.Data)}, nil
	case InitGradient:
		u, _, v, err := topTriplets(gradient, m, n, r, rng, "gradient")
		if err != nil {
			return factors{}, err
		}
		c := math.Sqrt(balancedNorm(layer, cfg.initScale()) / s)
		return factors{a: scaled(u, c), b: scaled(v, c)}, nil
	}
	return factors{}, fmt.Errorf("unknown init %q", cfg.Init)
}

// balancedNorm is the spectral norm of a start's product: RMS→RMS norm initScale, the unit of the learning rate.
func balancedNorm(layer param.Layer, initScale float64) float64 {
	return initScale * math.Sqrt(float64(layer.FanOut)/float64(layer.FanIn))
}

// uniform returns rows x cols numbers from [-1/sqrt(rows), 1/sqrt(rows)], the size PEFT gives its random factor
// (Kaiming uniform with a = sqrt(5), Hu et al. 2021's code).
func uniform(rows, cols int, rng *rand.Rand) []float32 {
	out := make([]float32, rows*cols)
	bound := 1 / math.Sqrt(float64(rows))
	for i := range out {
		out[i] = float32(bound * (2*rng.Float64() - 1))
	}
	return out
}

// topTriplets is topSVD of a float32 matrix that must be finite and not zero; what names it in errors.
func topTriplets(data []float32, m, n, r int, rng *rand.Rand, what string) (u blas64.General, sigma []float64, v blas64.General, err error) {
	zero := true
	for i, value := range data {
		if value-value != 0 {
			return u, nil, v, fmt.Errorf("the %s is %g at [%d, %d]", what, value, i/n, i%n)
		}
		zero = zero && value == 0
	}
	if zero {
		return u, nil, v, fmt.Errorf("the %s is all zeros, which has no singular vectors; leave the layer out or choose another init", what)
	}
	return topSVD(widen(data, m, n), r, rng)
}

func scaled(a blas64.General, c float64) []float32 {
	out := make([]float32, len(a.Data))
	for i, value := range a.Data {
		out[i] = float32(c * value)
	}
	return out
}

func scaleColumn(a blas64.General, k int, c float64) {
	for i := range a.Rows {
		a.Data[i*a.Stride+k] *= c
	}
}

// eachLayer calls work for every index below count on all cores and returns the error of the lowest index that has one.
func eachLayer(count int, work func(i int) error) error {
	errs := make([]error, count)
	var next atomic.Int64
	var group sync.WaitGroup
	for range min(count, runtime.GOMAXPROCS(0)) {
		group.Go(func() {
			for i := int(next.Add(1)) - 1; i < count; i = int(next.Add(1)) - 1 {
				errs[i] = work(i)
			}
		})
	}
	group.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
