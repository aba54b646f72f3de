package cli

import (
	"fmt"
	"io"
	"strings"

	"github.com/polargo/polar/run"
)

// invarianceLayers is how many layers the table of drifts shows.
const invarianceLayers = 5

// printInvariance writes what the checks of invariance found: one line, the layers that drifted most, and how their state was
// carried where that is not exact. Nothing for a run that was not checked.
func printInvariance(out io.Writer, found *run.Invariance) {
	if found == nil {
		return
	}
	say := func(format string, args ...any) { _, _ = fmt.Fprintf(out, format+"\n", args...) }
	say("  invariance: worst drift %.1e over %d layers at %s: %s", found.WorstDrift, len(found.Layers), steps(found.Steps), invarianceVerdict(found))
	rows := [][]string{{"  layer", "drift", fmt.Sprintf("of %g·I", found.Scalar), "float64", "at step"}}
	shown := min(invarianceLayers, len(found.Layers))
	for _, d := range found.Layers[:shown] {
		rows = append(rows, []string{"  " + d.Layer, figure(d.General), figure(d.Scalar), figure(d.WorstWide()), fmt.Sprint(d.AtStep)})
	}
	table(out, rows)
	if rest := found.Layers[shown:]; len(rest) > 0 {
		say("    and %d layers of at most %.1e", len(rest), rest[0].Worst())
	}
	for _, note := range found.Notes {
		say("    %s", note)
	}
}

func figure(drift float64) string { return fmt.Sprintf("%.1e", drift) }

// invarianceVerdict says what the drifts mean.
func invarianceVerdict(found *run.Invariance) string {
	switch found.Verdict {
	case run.Invariant:
		return fmt.Sprintf("certified (bound %g)", found.Bound)
	case run.InvariantUpToRounding:
		return fmt.Sprintf("certified in float64, %.1e (bound %g); in float32 the rounding of small steps is more", found.WorstFloat64, found.Bound)
	}
	return fmt.Sprintf("not invariant (bound %g)", found.Bound)
}

// steps writes numbers of steps as: steps 1, 2, 3.
func steps(all []int) string {
	words := make([]string, len(all))
	for i, n := range all {
		words[i] = fmt.Sprint(n)
	}
	if len(words) == 1 {
		return "step " + words[0]
	}
	return "steps " + strings.Join(words, ", ")
}
