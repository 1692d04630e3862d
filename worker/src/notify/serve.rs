//! What a consumer tells over HTTP: `/metrics`, `/healthz`, `/readyz`.
