package data

import (
	"context"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/gomlx/go-huggingface/hub"
)

// hubPrefix begins the name of files in a data set on the Hugging Face hub: hf://datasets/OWNER/NAME[/PATH], where PATH is a file
// or a glob in its repository.
const hubPrefix = "hf://"

// hubDataset downloads files of a data set and returns their paths, separated by commas. The hub package keeps them in its cache.
func (o Options) hubDataset(ctx context.Context, name string) (string, error) {
	parts := strings.SplitN(strings.TrimPrefix(name, hubPrefix), "/", 4)
	if len(parts) < 3 || parts[0] != "datasets" || slices.Contains(parts, "") {
		return "", fmt.Errorf("data: %s is not a data set: want hf://datasets/OWNER/NAME or hf://datasets/OWNER/NAME/FILE", name)
	}
	if o.Offline {
		return "", fmt.Errorf("data: %s is on the hub, and --offline forbids the network", name)
	}
	repo := hub.New(parts[1] + "/" + parts[2]).WithType(hub.RepoTypeDataset).WithAuth(os.Getenv("HF_TOKEN"))
	repo.Verbosity = 0
	if o.Source.HubEndpoint != "" {
		repo.WithEndpoint(o.Source.HubEndpoint).WithCacheDir(o.CacheDir)
	}
	var wanted, all []string
	for file, err := range repo.IterFileNames() {
		if err != nil {
			return "", fmt.Errorf("data: %s: %w", name, err)
		}
		if _, known := formats[strings.ToLower(path.Ext(file))]; !known || strings.EqualFold(path.Base(file), "README.md") {
			continue
		}
		all = append(all, file)
		if len(parts) == 3 {
			wanted = append(wanted, file)
		} else if match, err := path.Match(parts[3], file); err != nil {
			return "", fmt.Errorf("data: %s: %w", name, err)
		} else if match {
			wanted = append(wanted, file)
		}
	}
	switch {
	case len(wanted) == 0:
		return "", fmt.Errorf("data: %s: no file to read matches; the repository holds %s", name, shorten(all, 10))
	case len(parts) == 3 && len(wanted) > 1:
		return "", fmt.Errorf("data: %s holds several files (%s): name one, or a pattern, behind the data set's name", name, shorten(wanted, 10))
	}
	if err := ctx.Err(); err != nil {
		return "", err
	}
	paths, err := repo.DownloadFilesCtx(ctx, wanted...)
	if err != nil {
		return "", fmt.Errorf("data: %s: %w", name, err)
	}
	return strings.Join(paths, ","), nil
}
