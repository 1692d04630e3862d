// Judges the dashboards by Grafana's schema. A module of its own, so that what the cluster's programs are built from does not
// change with it.
module monthend/dashboards

go 1.24.1

require github.com/grafana/grafana-foundation-sdk/go v0.0.22
