package oracle

import (
	"errors"
	"math"
	"testing"

	"gonum.org/v1/gonum/mat"
)

// TestShampoo: without memory the direction is the polar factor, with one side or two; the same gradient again and again gives
// it too, and in sums over t steps its √t-th part; L^{-1/4} is the inverse of a fourth root.
func TestShampoo(t *testing.T) {
	g, err := RandomMatrix(1, 7, 4, 1e2)
	if err != nil {
		t.Fatal(err)
	}
	polar, err := Msign(g)
	if err != nil {
		t.Fatal(err)
	}
	for _, sides := range [][2]bool{{true, true}, {true, false}, {false, true}} {
		for _, nesterov := range []bool{false, true} {
			memory := Shampoo{Momentum: 0.9, Beta2: 0.99, Nesterov: nesterov, Left: sides[0], Right: sides[1]}
			none := Shampoo{Nesterov: nesterov, Left: sides[0], Right: sides[1]}
			sum := Shampoo{Momentum: 0.5, Beta2: 1, Nesterov: nesterov, Left: sides[0], Right: sides[1]}
			var averages, sums Averages
			for step := 1; step <= 3; step++ {
				direction, _, err := none.Direction(averages, g, step)
				if err != nil {
					t.Fatal(err)
				}
				near(t, "without memory", direction, polar, 1e-9)
				if direction, averages, err = memory.Direction(averages, g, step); err != nil {
					t.Fatal(err)
				}
				near(t, "one gradient", direction, polar, 1e-9)
				if direction, sums, err = sum.Direction(sums, g, step); err != nil {
					t.Fatal(err)
				}
				near(t, "sums", direction, combine(1/math.Sqrt(float64(step)), polar, 0, polar), 1e-9)
			}
		}
	}
	other := Gaussian(5, 4, 4)
	direction, averages, err := Shampoo{Beta2: 1, Left: true, Right: true}.Direction(Averages{L: eye(4), R: eye(4)}, other, 2)
	if err != nil {
		t.Fatal(err)
	}
	undone := product(averages.L, direction, averages.R) // L^{3/4} g R^{3/4}
	for range 3 {                                        // three more quarter roots on each side
		one, err := ApplyEigen(averages.L, func(v float64) float64 { return math.Sqrt(math.Sqrt(1 / v)) })
		if err != nil {
			t.Fatal(err)
		}
		two, err := ApplyEigen(averages.R, func(v float64) float64 { return math.Sqrt(math.Sqrt(1 / v)) })
		if err != nil {
			t.Fatal(err)
		}
		undone = product(one, undone, two)
	}
	near(t, "L L^{-1/4·4} g", undone, other, tol)
	bad := mat.DenseCopyOf(g)
	bad.Set(1, 1, math.Inf(1))
	if _, _, err := (Shampoo{Left: true}).Direction(Averages{}, bad, 1); !errors.Is(err, ErrNonFinite) {
		t.Errorf("a gradient with Inf: error %v", err)
	}
}
