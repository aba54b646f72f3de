package data

import "testing"

func TestPermutationIsBijection(t *testing.T) {
	for _, n := range []int64{1, 2, 3, 4, 5, 15, 16, 17, 63, 64, 65, 1000, 4097} {
		p := newPermutation(n, 7, 3)
		seen := make([]bool, n)
		for i := range n {
			at := p.at(i)
			if at < 0 || at >= n || seen[at] {
				t.Fatalf("n %d: image of %d is %d, outside or repeated", n, i, at)
			}
			seen[at] = true
		}
	}
	if p := newPermutation(1<<40, 1, 1); p.at(0) == p.at(1) || p.at(1<<40-1) >= 1<<40 {
		t.Error("a huge domain is not permuted")
	}
}

// TestPermutationUniform counts where each element lands over 5,000 epochs.
func TestPermutationUniform(t *testing.T) {
	const epochs = 5000
	for _, n := range []int64{3, 5, 10} {
		counts := make([]float64, n*n)
		for e := range int64(epochs) {
			p := newPermutation(n, 11, e)
			for i := range n {
				counts[i*n+p.at(i)]++
			}
		}
		want, chi := float64(epochs)/float64(n), 0.0
		for _, c := range counts {
			chi += (c - want) * (c - want) / want
		}
		// (n-1)² degrees of freedom: mean (n-1)², standard deviation √2·(n-1); five of them are one in 10,000 runs at most.
		if free := float64((n - 1) * (n - 1)); chi > free+5*1.4142*float64(n-1)+10 {
			t.Errorf("n %d: chi-squared %.1f with %.0f degrees of freedom", n, chi, free)
		}
	}
}
