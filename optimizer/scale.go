package optimizer

import "math"

// Scales lists the width scales of the msign family.
func Scales() []string { return []string{"rms", "none", "jordan", "moonlight"} }

// widthScale returns the factor on the step of a weight of fan-out m and fan-in n. An orthonormal update times
// sqrt(m/n) has norm 1 from RMS to RMS, whatever the width, which is what lets a learning rate transfer.
//
// Sources: "rms" is LoRA-Muon's (arXiv 2606.12921); "jordan" Muon's original; "moonlight" matches AdamW's usual update
// size (arXiv 2502.16982, equation 4).
func widthScale(scale string, fanOut, fanIn int) float64 {
	m, n := float64(fanOut), float64(fanIn)
	switch scale {
	case "none":
		return 1
	case "jordan":
		return math.Sqrt(max(1, m/n))
	case "moonlight":
		return 0.2 * math.Sqrt(max(m, n))
	}
	return math.Sqrt(m / n)
}
