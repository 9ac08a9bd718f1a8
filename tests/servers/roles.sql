CREATE ROLE rds_iam NOLOGIN;
CREATE ROLE master LOGIN SUPERUSER;
CREATE ROLE app_user LOGIN IN ROLE rds_iam;
CREATE ROLE readonly LOGIN IN ROLE rds_iam;
CREATE ROLE "app+iam@example.com" LOGIN IN ROLE rds_iam;
CREATE ROLE "Mixed Case" LOGIN IN ROLE rds_iam;
CREATE ROLE legacy_user LOGIN PASSWORD 'legacypass';
CREATE DATABASE appdb OWNER app_user;
