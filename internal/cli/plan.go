package cli

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/polargo/polar/run"
)

// printPlan says what a run will do: what trains under which rule, on what data, for how long, with how much memory.
func printPlan(out io.Writer, cfg run.Config, plan run.Plan, look style) {
	line := func(label, format string, args ...any) {
		_, _ = fmt.Fprintf(out, "%-10s%s\n", label, fmt.Sprintf(format, args...))
	}
	line("model", "%s, %s parameters, %s train", plan.Model, count(plan.Parameters), count(plan.Trainable))
	if plan.Tokenizer != "" {
		line("tokenizer", "%s", plan.Tokenizer)
	}
	line("backend", "%s", plan.Backend)
	printTargets(line, cfg, plan)
	line("rules", "%s", cfg.Optimizer)
	printRoutes(out, plan.Routes)
	for i, text := range plan.Data {
		line(map[bool]string{true: "data", false: ""}[i == 0], "%s", text)
	}
	if len(plan.Preview) > 0 {
		line("example", "%s", maskLegend(look))
		_, _ = fmt.Fprintln(out, indent(preview(plan.Preview, look), "  | "))
	}
	epochs := ""
	if plan.StepsPerEpoch > 0 {
		epochs = fmt.Sprintf(" (%.3g epochs)", float64(plan.Steps)/float64(plan.StepsPerEpoch))
	}
	line("steps", "%d%s of up to %d tokens, schedule %s", plan.Steps, epochs, plan.TokensPerStep, cfg.Schedule)
	if plan.Memory > 0 {
		line("memory", "about %s at its peak", size(plan.Memory))
	}
	if plan.Time > 0 {
		line("time", "about %s", span(plan.Time.Round(time.Second)))
	}
	line("folder", "%s", cfg.Out)
	for _, note := range plan.Notes {
		line("note", "%s", note)
	}
	_, _ = fmt.Fprintln(out)
}

// printTargets lists the adapted layers in condensed form.
func printTargets(line func(string, string, ...any), cfg run.Config, plan run.Plan) {
	if len(plan.Targets) == 0 {
		return
	}
	line("targets", "%d layers at rank %d", len(plan.Targets), cfg.Rank)
	for _, pattern := range condense(plan.Targets) {
		line("", "%s", pattern)
	}
}

// printRoutes writes the table of rules.
func printRoutes(out io.Writer, routes []run.RouteLine) {
	rows := [][]string{{"rule", "tensors", "parameters", "rate", "state", "for example"}}
	for _, route := range routes {
		rows = append(rows, []string{
			route.Rule, fmt.Sprint(route.Tensors), count(route.Parameters), fmt.Sprintf("%.3g", route.LearningRate), size(route.StateBytes),
			strings.Join(route.Examples[:min(2, len(route.Examples))], ", "),
		})
	}
	table(out, rows)
}

const (
	maskOpen, maskClose = "⟦", "⟧"
	dim, normal         = "\x1b[2m", "\x1b[0m"
	previewLetters      = 1200 // of one example, so that it fits a screen
)

func maskLegend(look style) string {
	if look.color {
		return "of a row; dim text is read but not trained on"
	}
	return "of a row; text in " + maskOpen + " " + maskClose + " is read but not trained on"
}

// preview marks the masked stretches of an example, and cuts the example after previewLetters.
func preview(segments []run.PreviewSegment, look style) string {
	var text strings.Builder
	left := previewLetters
	for _, segment := range segments {
		letters := []rune(printable(segment.Text))
		if len(letters) == 0 {
			continue
		}
		cut := len(letters) > left
		if cut {
			letters = letters[:left]
		}
		left -= len(letters)
		switch {
		case segment.Trained:
			text.WriteString(string(letters))
		case look.color:
			// a terminal may reset attributes at a line's end
			text.WriteString(dim + strings.ReplaceAll(string(letters), "\n", normal+"\n"+dim) + normal)
		default:
			text.WriteString(maskOpen + string(letters) + maskClose)
		}
		if cut {
			text.WriteString(" …")
			break
		}
	}
	return text.String()
}

// printable replaces control characters other than line ends and tabs, so that data cannot steer the terminal.
func printable(text string) string {
	return strings.Map(func(letter rune) rune {
		if letter < ' ' && letter != '\n' && letter != '\t' || letter >= 0x7f && letter < 0xa0 {
			return '�'
		}
		return letter
	}, text)
}

// indent puts a prefix before every line.
func indent(text, prefix string) string {
	return prefix + strings.ReplaceAll(strings.TrimRight(text, "\n"), "\n", "\n"+prefix)
}
