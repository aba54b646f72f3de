package cli

import "math"

// sparkline draws values as at most width block characters, each the mean of its stretch, from the smallest (▁) to the
// largest (█) mean. Values that are not finite are left out.
func sparkline(values []float64, width int) string {
	var finite []float64
	for _, v := range values {
		if isFinite(v) {
			finite = append(finite, v)
		}
	}
	if len(finite) == 0 || width < 1 {
		return ""
	}
	columns := min(width, len(finite))
	means := make([]float64, columns)
	low, high := math.Inf(1), math.Inf(-1)
	for i := range means {
		from, to := i*len(finite)/columns, (i+1)*len(finite)/columns
		for _, v := range finite[from:to] {
			means[i] += v / float64(to-from)
		}
		low, high = min(low, means[i]), max(high, means[i])
	}
	blocks := []rune("▁▂▃▄▅▆▇█")
	line := make([]rune, columns)
	for i, mean := range means {
		level := 0
		if high > low {
			level = int((mean - low) / (high - low) * float64(len(blocks)-1))
		}
		line[i] = blocks[level]
	}
	return string(line)
}
