package cli

import (
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/polargo/polar/run"
	"github.com/polargo/polar/tokenizer"
)

// printResult says what a run found, where it left it, and what to try next.
func printResult(out io.Writer, cfg run.Config, result *run.Result) {
	say := func(format string, args ...any) { _, _ = fmt.Fprintf(out, format+"\n", args...) }
	say("\n%s %d steps in %s, %.0f tokens/s", finished(result), result.Steps, span(seconds(result.Seconds)), result.TokensPerSecond)
	if isFinite(result.FinalLoss) {
		table(out, [][]string{
			{"", "start", "best", "final"},
			{"validation loss", loss(result.StartLoss), fmt.Sprintf("%s (step %d)", loss(result.BestLoss), result.BestStep), loss(result.FinalLoss)},
		})
	} else {
		say("  no validation data, no validation loss")
	}
	if result.ExportedStep != result.Steps {
		say("  exported are the weights of step %d, the best; --export last takes the last", result.ExportedStep)
	}
	if line := sparkline(result.Losses, 60); line != "" {
		say("  training loss  %s", line)
	}
	printChanges(out, result)
	printInvariance(out, result.Invariance)
	for _, sample := range result.Samples[max(0, len(result.Samples)-1):] {
		say("\nsample at step %d", sample.Step)
		say("%s", indent(printable(sample.Prompt+sample.Text), "  | "))
	}
	say("")
	if result.Adapter != "" {
		say("adapter   %s", result.Adapter)
	}
	if result.Model != "" {
		say("model     %s", result.Model)
	}
	say("try       %s", nextCommand(cfg, result))
}

func isFinite(number float64) bool { return !math.IsNaN(number) && !math.IsInf(number, 0) }

// loss writes a loss, or a dash where none was measured.
func loss(value float64) string {
	if !isFinite(value) {
		return "-"
	}
	return fmt.Sprintf("%.4f", value)
}

func finished(result *run.Result) string {
	if result.StoppedEarly {
		return "stopped early (patience):"
	}
	return "done:"
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

// printChanges says how far the layers moved and that the export computes what the trainer does.
func printChanges(out io.Writer, result *run.Result) {
	if len(result.Layers) > 0 {
		sorted := slices.Clone(result.Layers)
		slices.SortStableFunc(sorted, func(a, b run.LayerChange) int {
			switch {
			case a.Norm > b.Norm:
				return -1
			case a.Norm < b.Norm:
				return 1
			}
			return 0
		})
		n := len(sorted)
		_, _ = fmt.Fprintf(out, "  ‖ΔW‖ of %d layers: smallest %.3g, median %.3g, largest %.3g\n", n, sorted[n-1].Norm, sorted[n/2].Norm, sorted[0].Norm)
		for _, layer := range sorted[:min(3, n)] {
			_, _ = fmt.Fprintf(out, "    %.3g  %s\n", layer.Norm, layer.Layer)
		}
	}
	_, _ = fmt.Fprintf(out, "  logits on the probe prompt moved by up to %.3g\n", result.ProbeChange)
	_, _ = fmt.Fprintf(out, "  the export was loaded again: its logits differ from the trainer's by at most %.2g\n", result.ExportDifference)
}

// nextCommand is a command line that samples from what was trained.
func nextCommand(cfg run.Config, result *run.Result) string {
	words := []string{"polar", "generate"}
	switch {
	case result.Adapter != "":
		words = append(words, "--model", shellWord(cfg.Model), "--adapter", shellWord(result.Adapter))
	default:
		words = append(words, "--model", shellWord(result.Model))
	}
	prompt := "Once"
	if n := len(result.Samples); n > 0 && result.Samples[n-1].Prompt != "" {
		prompt = result.Samples[n-1].Prompt
	}
	if template, err := tokenizer.TemplateFromFolder(result.Adapter + result.Model); err == nil && template != "" {
		words = append(words, "--chat") // the sample's prompt has the template's marks in it
		if prompt = cfg.SamplePrompt; prompt == "" {
			prompt = "Hello!"
		}
	}
	if letters := []rune(prompt); len(letters) > 60 || strings.ContainsAny(prompt, "\n\r\t") {
		prompt = strings.TrimSpace(oneLine(string(letters[:min(60, len(letters))])))
	}
	return strings.Join(append(words, shellWord(prompt)), " ")
}
