-- Which version of the pricing rules a run began with, and which one priced each chunk.

alter table revision add column pricing_version integer;
comment on column revision.pricing_version is 'The version of the pricing rules of the operator that began the run. Null: of a version that recorded none.';

alter table chunk add column pricing_version integer;
comment on column chunk.pricing_version is 'The version of the pricing rules of the worker that priced the chunk.';
