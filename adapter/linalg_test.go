package adapter

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/polargo/polar/internal/check"
	"gonum.org/v1/gonum/blas/blas64"
	"gonum.org/v1/gonum/mat"
)

// decaying returns an [m, n] matrix with singular values (k+1)^-power, as slow as those of trained weights.
func decaying(m, n int, power float64, seed uint64) blas64.General {
	rng := rand.New(rand.NewPCG(seed, 0))
	k := min(m, n)
	u, v := orthonormal(m, k, rng), orthonormal(n, k, rng)
	for j := range k {
		scaleColumn(u, j, math.Pow(float64(j+1), -power))
	}
	return product(u, false, v, true)
}

// TestTopSVD compares the randomised with the full decomposition: the leading singular values, and the residual's norm
// against the best there is.
func TestTopSVD(t *testing.T) {
	const (
		exactTol    = 1e-12 // all of the range is sampled: rounding only
		slowTol     = 1e-3  // 16 of 96 values that decay as 1/sqrt(k); worst of 20 seeds was 1.4e-4
		orthoTol    = 1e-12
		residualTol = 1.0001 // of the best rank-r approximation in Frobenius norm
	)
	for _, c := range []struct {
		m, n, r    int
		power, tol float64
	}{{80, 48, 4, 1, 1e-6}, {24, 40, 16, 0.5, exactTol}, {12, 12, 12, 0.5, exactTol}, {96, 160, 16, 0.5, slowTol}, {160, 96, 16, 0.5, slowTol}, {30, 1, 1, 1, exactTol}} {
		for seed := range uint64(5) {
			w := decaying(c.m, c.n, c.power, seed)
			u, sigma, v, err := topSVD(w, c.r, rand.New(rand.NewPCG(seed, 3)))
			if err != nil {
				t.Fatal(err)
			}
			name := fmt.Sprintf("%dx%d rank %d seed %d", c.m, c.n, c.r, seed)
			var svd mat.SVD
			svd.Factorize(dense(w), mat.SVDNone)
			full := svd.Values(nil)
			best := 0.0
			for k, want := range full {
				if k < c.r && math.Abs(sigma[k]/want-1) > c.tol {
					t.Errorf("%s: sigma %d = %g, want %g", name, k, sigma[k], want)
				}
				if k >= c.r {
					best += want * want
				}
			}
			for _, q := range []blas64.General{u, v} {
				gram := product(q, true, q, false)
				for i, value := range gram.Data {
					want := 0.0
					if i%(c.r+1) == 0 {
						want = 1
					}
					if !(math.Abs(value-want) < orthoTol) {
						t.Fatalf("%s: Gram entry %d is %g", name, i, value)
					}
				}
			}
			for k := range c.r {
				scaleColumn(u, k, sigma[k])
			}
			residual := 0.0
			for i, value := range product(u, false, v, true).Data {
				residual += (w.Data[i] - value) * (w.Data[i] - value)
			}
			if residual > residualTol*residualTol*best+1e-24 {
				t.Errorf("%s: residual² %g, best %g", name, residual, best)
			}
		}
	}
}

// TestTopSVDBite holds that the comparison sees a decomposition without power iterations.
func TestTopSVDBite(t *testing.T) {
	w := decaying(96, 160, 0.5, 1)
	q, _ := thinQR(product(w, false, gaussian(160, 32, rand.New(rand.NewPCG(1, 3))), false))
	norm, err := spectralNorm(product(q, true, w, false))
	if err != nil || math.Abs(norm-1) < 1e-3 {
		t.Errorf("one product already gives sigma 1 = %g (%v): the tolerance cannot fail", norm, err)
	}
}

func TestThinQR(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	for _, size := range [][2]int{{7, 3}, {3, 7}, {5, 5}, {1, 4}, {4, 1}} {
		a := gaussian(size[0], size[1], rng)
		keep := append([]float64(nil), a.Data...)
		q, r := thinQR(a)
		closeTo(t, fmt.Sprint(size), product(q, false, r, false).Data, keep, 1e-13)
		for i := range r.Rows {
			for j := range i {
				if r.Data[i*r.Stride+j] != 0 {
					t.Errorf("%v: r[%d, %d] is not zero", size, i, j)
				}
			}
			if r.Data[i*r.Stride+i] < 0 {
				t.Errorf("%v: negative diagonal", size)
			}
		}
	}
}

// TestProductNorm includes factors wider than they are tall and products that cancel.
func TestProductNorm(t *testing.T) {
	rng := rand.New(rand.NewPCG(2, 2))
	for _, size := range [][3]int{{9, 7, 3}, {3, 9, 6}, {4, 4, 4}} {
		left, right := gaussian(size[0], size[2], rng), gaussian(size[1], size[2], rng)
		full := product(left, false, right, true)
		want, err := spectralNorm(full)
		if err != nil {
			t.Fatal(err)
		}
		got, err := productNorm(left, right)
		if err != nil || math.Abs(got/want-1) > 1e-12 {
			t.Errorf("%v: %g, want %g (%v)", size, got, want, err)
		}
	}
	a, b := randomValues(8*2, rng), randomValues(6*2, rng)
	got, err := productNorm(widen(besides(a, a, 8, 1), 8, 4), widen(besides(b, b, 6, -1), 6, 4))
	if err != nil || got > 1e-14 {
		t.Errorf("cancelling product has norm %g (%v)", got, err)
	}
	if _, err := productNorm(blas64.General{Rows: 1, Cols: 1, Stride: 1, Data: []float64{math.NaN()}}, blas64.General{Rows: 1, Cols: 1, Stride: 1, Data: []float64{1}}); err == nil {
		t.Error("NaN has a norm")
	}
}

// TestPiSSATime reports how long the start of a SmolLM2-135M-sized model takes: 30 blocks of 576 and 1536.
func TestPiSSATime(t *testing.T) {
	check.Long(t)
	layers := testLayers()[:7]
	for i, size := range [][2]int{{576, 576}, {192, 576}, {192, 576}, {576, 576}, {1536, 576}, {1536, 576}, {576, 1536}} {
		layers[i].FanOut, layers[i].FanIn = size[0], size[1]
	}
	store := testStore(layers, 1)
	begin := time.Now()
	if _, err := New(store, layers, Config{Rank: 16, Alpha: 16, Init: InitPiSSA}, Options{}); err != nil {
		t.Fatal(err)
	}
	t.Logf("one block took %v; 30 blocks take about %v", time.Since(begin), 30*time.Since(begin))
}
