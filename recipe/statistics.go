package recipe

import (
	"fmt"
	"math"

	"gonum.org/v1/gonum/stat"
)

// Estimate is a mean over seeds with its standard error.
type Estimate struct {
	Mean Number `json:"mean"`
	// StandardError is the sample's standard deviation over the root of N; NaN for fewer than two seeds.
	StandardError Number `json:"standard_error"`
	N             int    `json:"n"`
}

// estimate returns the mean of a sample with its standard error. A NaN or an infinity in the sample is in the mean too: a
// trial that diverged is not left out.
func estimate(sample []float64) Estimate {
	if len(sample) == 0 {
		return Estimate{Mean: Number(math.NaN()), StandardError: Number(math.NaN())}
	}
	if len(sample) == 1 {
		return Estimate{Mean: Number(sample[0]), StandardError: Number(math.NaN()), N: 1}
	}
	mean, deviation := stat.MeanStdDev(sample, nil)
	return Estimate{Mean: Number(mean), StandardError: Number(stat.StdErr(deviation, float64(len(sample)))), N: len(sample)}
}

// paired estimates the difference a - b of two samples over the same seeds: what the seeds share cancels.
func paired(a, b []float64) Estimate {
	difference := make([]float64, len(a))
	for i := range a {
		difference[i] = a[i] - b[i]
	}
	return estimate(difference)
}

// String writes mean ± standard error with as many digits as the error supports.
func (e Estimate) String() string {
	mean, deviation := float64(e.Mean), float64(e.StandardError)
	switch {
	case math.IsNaN(mean) || math.IsInf(mean, 0):
		return fmt.Sprint(mean)
	case math.IsNaN(deviation):
		return fmt.Sprintf("%.4g", mean)
	case deviation == 0:
		return fmt.Sprintf("%.4g ± 0", mean)
	}
	digits := min(max(1-int(math.Floor(math.Log10(deviation))), 0), 6)
	return fmt.Sprintf("%.*f ± %.*f", digits, mean, digits, deviation)
}

// distinctErrors is how many standard errors away from zero a mean must be before a difference is called one. Two
// is the usual choice; with six seeds a difference of nothing passes it in one of ten cases.
const distinctErrors = 2

// above reports whether the estimate is distinctly above zero. Without a standard error nothing is distinct.
func (e Estimate) above() bool {
	return float64(e.Mean) > distinctErrors*float64(e.StandardError) && float64(e.Mean) > 0
}

// below reports whether the estimate is distinctly below zero.
func (e Estimate) below() bool {
	return float64(e.Mean) < -distinctErrors*float64(e.StandardError) && float64(e.Mean) < 0
}
