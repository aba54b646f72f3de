package matfn

import (
	"fmt"
	"math"
	"testing"

	. "github.com/gomlx/gomlx/core/graph"
	"gonum.org/v1/gonum/mat"

	"github.com/polargo/polar/internal/check"
	"github.com/polargo/polar/internal/oracle"
)

// above allows the lower bound its rounding: 6e-8·sqrt(length) of a dot product, and a unit vector's own.
const above = 1e-6

// triplet runs SpectralNorm on one matrix.
func triplet(t testing.TB, x *mat.Dense, opts ...NormOption) (u []float32, sigma float64, v []float32) {
	t.Helper()
	out := call(t, func(in []*Node) []*Node {
		u, sigma, v := SpectralNorm(in[0], opts...)
		return []*Node{u, sigma, v}
	}, tensorOf(x))
	return out[0], float64(out[1][0]), out[2]
}

// TestSpectralNorm: a lower bound within the tolerance that the gap allows, and consistent singular vectors.
func TestSpectralNorm(t *testing.T) {
	for _, shape := range [][2]int{{1, 1}, {1, 7}, {7, 1}, {12, 12}, {20, 90}, {90, 20}} {
		for _, c := range []struct{ cond, tol float64 }{
			{1, 1e-6},    // every vector is a singular vector
			{100, 1e-3},  // gaps of 4 to 50 %
			{1e-9, 1e-6}, // a gap of many orders of magnitude
		} {
			x := random(t, 21, shape[0], shape[1], c.cond)
			if c.cond < 1 { // one large singular value among equal small ones
				sigma := make([]float64, min(shape[0], shape[1]))
				for i := range sigma {
					sigma[i] = c.cond
				}
				sigma[0] = 5
				x = rounded(t, must[*mat.Dense](t)(oracle.WithSingularValues(1, shape[0], shape[1], sigma)))
			}
			name := fmt.Sprintf("%v cond %g", shape, c.cond)
			want := must[float64](t)(oracle.SpectralNorm(x))
			u, sigma, v := triplet(t, x)
			if sigma > want*(1+above) || !(sigma >= want*(1-c.tol)) {
				t.Errorf("%s: sigma %v, the oracle's is %v: off by %.3g relative", name, sigma, want, sigma/want-1)
			}
			um, vm := matrixOf(t, u, shape[0], 1), matrixOf(t, v, shape[1], 1)
			var uxv, sv mat.Dense
			uxv.Product(um.T(), x, vm)
			sv.Scale(sigma, vm)
			check.Close(t, name+": uᵀ x v", flat(&uxv), []float64{sigma}, 2*above)
			check.Close(t, name+": lengths", []float64{mat.Norm(um, 2), mat.Norm(vm, 2)}, []float64{1, 1}, above)
		}
	}
}

// TestSpectralNormOptions: with the two largest singular values 3 % apart 16 steps fall short of 1e-4; more steps reach it,
// and the seed decides how short.
func TestSpectralNormOptions(t *testing.T) {
	sigma := []float64{1, 0.97, 0.96, 0.95, 0.94, 0.1, 0.1, 0.1}
	x := rounded(t, must[*mat.Dense](t)(oracle.WithSingularValues(3, 8, 20, sigma)))
	_, few, _ := triplet(t, x)
	_, other, _ := triplet(t, x, WithSeed(99))
	_, many, _ := triplet(t, x, WithPowerSteps(200))
	if few > 1+above || few < 0.95 || few > 1-1e-4 {
		t.Errorf("16 steps give %v", few)
	}
	if other == few || other > 1+above || other < 0.95 {
		t.Errorf("another seed gives %v, the default %v", other, few)
	}
	if math.Abs(many-1) > 2*above {
		t.Errorf("200 steps give %v", many)
	}
}

// TestSpectralNormScale: sigma follows the scale of x, the vectors stay.
func TestSpectralNormScale(t *testing.T) {
	x := random(t, 2, 9, 14, 10)
	u, sigma, v := triplet(t, x)
	for _, scale := range []float64{1e-30, 1e-12, 1e12, 1e30} {
		u2, sigma2, v2 := triplet(t, rounded(t, scaled(scale, x)))
		check.Close(t, fmt.Sprintf("sigma at %g", scale), []float64{sigma2 / scale}, []float64{sigma}, 2*above)
		check.Close(t, "u", u2, u, 1e-4)
		check.Close(t, "v", v2, v, 1e-4)
	}
}
