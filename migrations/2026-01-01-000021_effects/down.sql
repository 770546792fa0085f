DROP TABLE effect_attempts;
DROP TABLE effects;
