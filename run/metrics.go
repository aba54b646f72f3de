package run

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/polargo/polar/internal/atomicfile"
)

const metricsFile = "metrics.jsonl"

// metrics appends the lines of metrics.jsonl: one JSON object a step and one an evaluation, in order of step.
type metrics struct {
	path string
	file *os.File
}

// openMetrics opens the run folder's metrics for appending. Lines after step, which a killed run wrote past its last
// checkpoint, are removed: the resumed run writes them again.
func openMetrics(folder string, step int) (*metrics, error) {
	path := filepath.Join(folder, metricsFile)
	lines, err := readMetrics(folder)
	if err != nil {
		return nil, err
	}
	var kept []byte
	for _, line := range lines {
		if line.Step <= step {
			kept = append(append(kept, line.raw...), '\n')
		}
	}
	if err := atomicfile.WriteBytes(path, kept); err != nil {
		return nil, err
	}
	file, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	return &metrics{path: path, file: file}, nil
}

// add appends a line.
func (m *metrics) add(value any) error {
	text, err := json.Marshal(value)
	if err != nil {
		return err
	}
	if _, err := m.file.Write(append(text, '\n')); err != nil {
		return fmt.Errorf("write %s: %w", m.path, err)
	}
	return nil
}

func (m *metrics) close() error { return m.file.Close() }

// metricLine is a line of metrics.jsonl: of a step when Loss is set, of an evaluation when ValidationLoss is.
type metricLine struct {
	Step           int      `json:"step"`
	Loss           *float64 `json:"loss"`
	ValidationLoss *float64 `json:"validation_loss"`
	raw            []byte
}

// readMetrics returns the lines of a run's metrics; a last line cut short by a kill is left out.
func readMetrics(folder string) ([]metricLine, error) {
	file, err := os.Open(filepath.Join(folder, metricsFile))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }()
	var lines []metricLine
	scanner := bufio.NewScanner(file)
	for scanner.Scan() {
		line := metricLine{raw: append([]byte(nil), scanner.Bytes()...)}
		if json.Unmarshal(line.raw, &line) == nil {
			lines = append(lines, line)
		}
	}
	return lines, scanner.Err()
}
