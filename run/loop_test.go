package run

import (
	"os"
	"path/filepath"
	"testing"
)

func TestFinetune(t *testing.T) {
	t.Parallel()
	base := tinyModel(t)
	for _, init := range []string{"balanced", "pissa", "gradient", "lora"} {
		t.Run(init, func(t *testing.T) {
			cfg := tune(t, base, writeFile(t, "text.txt", words(400, 1)))
			cfg.Init, cfg.Steps, cfg.Rank, cfg.Alpha, cfg.LearningRate = init, 20, 4, 8, 0.3
			result, told := mustRun(t, cfg)
			if !(result.FinalLoss < result.StartLoss-0.1) || len(result.Losses) != 20 || len(told.steps) != 20 {
				t.Errorf("validation loss %v -> %v in %d steps, want it to fall by 0.1", result.StartLoss, result.FinalLoss, len(result.Losses))
			}
			if len(result.Layers) != 6 || result.ProbeChange <= 0 || result.ExportDifference > 1e-4 {
				t.Errorf("%d layers changed, probe by %v, export differs by %v", len(result.Layers), result.ProbeChange, result.ExportDifference)
			}
			for _, name := range []string{"adapter/adapter_config.json", "adapter/README.md", metricsFile, configFile, runFile, resultFile} {
				if _, err := os.Stat(filepath.Join(result.Folder, name)); err != nil {
					t.Error(err)
				}
			}
		})
	}
}
