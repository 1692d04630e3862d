// Judges dashboards by the schema that Grafana publishes: no field that it does not know, none missing that it requires, and each
// value of its type. What is wrong goes to standard error, with its path in the file.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"github.com/grafana/grafana-foundation-sdk/go/bargauge"
	"github.com/grafana/grafana-foundation-sdk/go/cog"
	"github.com/grafana/grafana-foundation-sdk/go/cog/variants"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
	"github.com/grafana/grafana-foundation-sdk/go/prometheus"
	"github.com/grafana/grafana-foundation-sdk/go/stat"
	"github.com/grafana/grafana-foundation-sdk/go/statetimeline"
	"github.com/grafana/grafana-foundation-sdk/go/timeseries"
	"github.com/grafana/grafana-foundation-sdk/go/units"
)

// The schema has units as constants only: a unit that is not among these is added here, by its constant.
var knownUnits = map[string]bool{
	units.Number:       true,
	units.LocaleFormat: true,
	units.PercentUnit:  true,
	units.Seconds:      true,
	units.OpsPerSecond: true,
	units.BytesIEC:     true,
}

func main() {
	runtime := cog.NewRuntime()
	for _, config := range []variants.PanelcfgConfig{
		bargauge.VariantConfig(), stat.VariantConfig(), statetimeline.VariantConfig(), timeseries.VariantConfig(),
	} {
		runtime.RegisterPanelcfgVariant(config)
	}
	runtime.RegisterDataqueryVariant(prometheus.VariantConfig())

	wrong := len(os.Args) < 2
	for _, file := range os.Args[1:] {
		for _, fault := range faults(file) {
			fmt.Fprintf(os.Stderr, "%s: %s\n", file, fault)
			wrong = true
		}
	}
	if wrong {
		os.Exit(1)
	}
}

func faults(file string) []string {
	raw, err := os.ReadFile(file)
	if err != nil {
		return []string{err.Error()}
	}
	// The strict reading of this SDK finds faults, and leaves the panels out of what it has read.
	var strict, read dashboard.Dashboard
	if found := listed(strict.UnmarshalJSONStrict(raw)); len(found) > 0 {
		return found
	}
	if err := json.Unmarshal(raw, &read); err != nil {
		return []string{err.Error()}
	}
	found := listed(read.Validate())
	panels := 0
	for _, panel := range read.Panels {
		if panel.Panel != nil {
			panels++
			found = append(found, panelFaults(panel.Panel)...)
		}
	}
	if panels == 0 {
		found = append(found, "no panel")
	}
	return append(found, leniencies(raw)...)
}

// A panel of a type that the strict reading was not told about passes it with any options.
func panelFaults(panel *dashboard.Panel) []string {
	var found []string
	if _, known := cog.ConfigForPanelcfgVariant(panel.Type); !known {
		found = append(found, fmt.Sprintf("panel %d: main.go does not register the type %q", *panel.Id, panel.Type))
	}
	if panel.FieldConfig == nil || panel.FieldConfig.Defaults.Unit == nil || !knownUnits[*panel.FieldConfig.Defaults.Unit] {
		found = append(found, fmt.Sprintf("panel %d: its unit is not among those of main.go", *panel.Id))
	}
	return found
}

// What the strict reading reads leniently: the field configuration of a panel, and a query that names no data source.
func leniencies(raw []byte) []string {
	type query struct {
		Datasource struct {
			Type string `json:"type"`
		} `json:"datasource"`
	}
	var read struct {
		Panels []struct {
			Id          int             `json:"id"`
			FieldConfig json.RawMessage `json:"fieldConfig"`
			Targets     []query         `json:"targets"`
		} `json:"panels"`
		Annotations struct {
			List []struct {
				Name   string `json:"name"`
				Target query  `json:"target"`
			} `json:"list"`
		} `json:"annotations"`
	}
	if err := json.Unmarshal(raw, &read); err != nil {
		return []string{err.Error()}
	}
	var found []string
	for _, panel := range read.Panels {
		for _, target := range panel.Targets {
			if target.Datasource.Type != "prometheus" {
				found = append(found, fmt.Sprintf("panel %d: a query names no Prometheus as its data source", panel.Id))
			}
		}
		var config dashboard.FieldConfigSource
		for _, fault := range listed(config.UnmarshalJSONStrict(panel.FieldConfig)) {
			found = append(found, fmt.Sprintf("panel %d: fieldConfig: %s", panel.Id, fault))
		}
	}
	for _, annotation := range read.Annotations.List {
		if annotation.Target.Datasource.Type != "prometheus" {
			found = append(found, fmt.Sprintf("annotation %q: it names no Prometheus as its data source", annotation.Name))
		}
	}
	return found
}

// The SDK's list of errors is an error even if it is empty.
func listed(err error) []string {
	var found cog.BuildErrors
	if err == nil || errors.As(err, &found) && len(found) == 0 {
		return nil
	}
	if len(found) == 0 {
		return []string{err.Error()}
	}
	var texts []string
	for _, fault := range found {
		texts = append(texts, fault.Error())
	}
	return texts
}
