DROP TABLE flow_task_parts;
DROP TABLE flow_tasks;
